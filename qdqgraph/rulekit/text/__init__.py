"""Rules as text: TOML files whose `pattern` and `rewrite` are ONNX function text. They execute no code."""

from .rule import SCHEMA, TextRule

__all__ = ["SCHEMA", "TextRule"]

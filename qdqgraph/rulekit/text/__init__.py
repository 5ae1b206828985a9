"""Rules as text: TOML files whose `pattern` and `rewrite` are ONNX function text. They execute no code."""

from .form import SCHEMA
from .rule import TextRule

__all__ = ["SCHEMA", "TextRule"]

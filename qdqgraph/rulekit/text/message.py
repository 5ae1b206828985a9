"""Messages of text rules: `{x}` is the tensor of variable x, `{x.shape}` its shape, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

import onnx

from ...graph.graph import Graph
from ...graph.pair import pairs
from ...graph.sites import scales_at
from ...toml.file import TextError
from .match import Match
from .pattern import Pattern

FIELDS = ("value", "shape", "bytes", "count", "dtype", "op", "scales")
"""The fields of a variable: a constant's value, the shape, bytes as float, the number of tensors of a variadic
variable, the ONNX type, the operator of its producer, the scales of its pairs."""
TIED = "tie.scales"
"""The scales of all sites of the tie."""


@dataclass(frozen=True)
class Message:
    """A template: literal text, each piece followed by a field, "" for none."""

    pieces: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str, pattern: Pattern) -> Message:
        """Reads a template.

        Raises:
            TextError: a brace is not closed, or a placeholder is not a variable of the pattern.
        """
        try:
            pieces = tuple((literal, name or "") for literal, name, _, _ in Formatter().parse(text))
        except ValueError as error:
            raise TextError(f"{text!r} is not a template: {error}; write {{x}}, or {{{{ for a brace") from error
        for _, name in pieces:
            variable, _, field = name.partition(".")
            if name and name != TIED and (variable not in pattern.variables or field not in ("", *FIELDS)):
                raise TextError(
                    f"unknown placeholder {{{name}}}; write a variable of the pattern, {TIED}, "
                    f"or variable.field with one of {', '.join(FIELDS)}"
                )
        return cls(pieces)

    @classmethod
    def plain(cls, text: str) -> Message:
        """A message without placeholders."""
        return cls(((text, ""),))

    def fill(self, graph: Graph, match: Match, sites: Sequence[str]) -> str:
        """The message for one match; `sites` are those of its tie."""
        return "".join(literal + _field(name, graph, match, sites) for literal, name in self.pieces)


def _field(name: str, graph: Graph, match: Match, sites: Sequence[str]) -> str:
    if name in ("", TIED):
        return scales_at(graph, tuple(sites)) if name else ""
    variable, _, field = name.partition(".")
    tensors = match.tensors[variable]
    if not field:
        return ", ".join(tensors)
    if field == "count":
        return str(len(tensors))
    if field == "bytes":
        return f"{4 * sum(graph.elements(t) for t in tensors):,}"
    if field == "scales":
        return scales_at(graph, tuple(pairs(graph).root(t) for t in tensors))
    return ", ".join(_of_one(graph, t, field) for t in tensors)


def _of_one(graph: Graph, tensor: str, field: str) -> str:
    if field == "op":
        maker = graph.producer(tensor)
        return str(maker.op) if maker is not None else "nothing"
    if field == "shape":
        shape = graph.shape(tensor)
        return "unknown" if shape is None else "x".join("?" if d is None else str(d) for d in shape) or "scalar"
    if field == "dtype":
        found = graph.dtype(tensor)
        return "unknown" if found is None else onnx.TensorProto.DataType.Name(found).lower()
    value = graph.value(tensor) if tensor else None
    if value is None:
        return "unknown"
    shown = ", ".join(f"{float(v):.4g}" for v in value.reshape(-1)[:4])
    return shown + (", ..." if value.size > 4 else "")

"""The closed list of conditions for `where`: what a pattern cannot express.

Each is a function of the graph and of tensors, and returns the reason why it does not hold, or "". `conditions` reads
them. If the list does not suffice, write the rule in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ...errors import counted
from ...graph.graph import Graph, label
from ...graph.moves import move_of
from ...graph.pair import pairs
from ...graph.sites import shared_scale_sites, sites
from .match import same_value
from .pattern import operator

Check = Callable[..., str]
"""(graph, tensors or values…) → the reason why it does not hold, "" if it does."""


@dataclass(frozen=True)
class Predicate:
    """One entry of the list.

    Attributes:
        arguments: kinds of its arguments: "variable", "number", "type"; "number?" is optional; "operator*", the last
            one, means any number of operators and categories.
        meaning: one sentence for the documentation.
        example: one use.
        check: the function.
    """

    arguments: tuple[str, ...]
    meaning: str
    example: str
    check: Check


def _same_value(graph: Graph, a: str, b: str) -> str:
    return "" if same_value(graph, a, b) else f"{_constant_text(graph, a)} and {_constant_text(graph, b)} differ"


def _constant(graph: Graph, x: str) -> str:
    return "" if x and graph.is_constant(x) else f"'{x}' is computed at run time"


def _scalar(graph: Graph, x: str) -> str:
    value = graph.value(x) if x else None
    shape = None if value is None else value.shape
    shape = graph.shape(x) if shape is None else shape
    if shape is None or None in shape:
        return f"the size of '{x}' is unknown"
    size = math.prod(d or 0 for d in shape)
    return "" if size == 1 else f"'{x}' has {size} elements"


def _zero(graph: Graph, x: str) -> str:
    if not x:
        return ""
    value = graph.value(x)
    return "" if value is not None and not np.any(value) else f"{_constant_text(graph, x)} is not all zero"


def _above(graph: Graph, x: str, bound: float) -> str:
    value = graph.value(x) if x else None
    holds = value is not None and value.size and bool(np.all(value.astype(np.float64) > bound))
    return "" if holds else f"{_constant_text(graph, x)} is not above {bound:g}"


def _fanout(graph: Graph, x: str, low: float, high: float | None = None) -> str:
    count = len(graph.readers(x)) + (x in graph.outputs)
    top = low if high is None else high
    return "" if low <= count <= top else f"'{x}' has {counted(count, 'reader')}"


def _sole_consumer(graph: Graph, x: str) -> str:
    return _fanout(graph, x, 1)


def _followed_by(graph: Graph, x: str, *ops: str) -> str:
    if x in graph.outputs:
        return f"'{x}' is a graph output"
    readers = graph.readers(x)
    other = next((r.node for r in readers if operator(r.node) not in ops), None)
    if other is not None:
        return f"'{label(other)}', which reads '{x}', is {operator(other)}"
    return "" if readers else f"nothing reads '{x}'"


def _read_by(graph: Graph, x: str, *ops: str) -> str:
    found = dict.fromkeys(operator(r.node) for r in graph.readers(x))
    return "" if any(op in ops for op in found) else f"'{x}' is read by {', '.join(found) or 'nothing'}"


def _made_by(graph: Graph, x: str, *ops: str) -> str:
    maker = graph.producer(x)
    if maker is None:
        return f"no node produces '{x}'"
    return "" if operator(maker) in ops else f"'{label(maker)}', which produces '{x}', is {operator(maker)}"


def _before(graph: Graph, a: str, b: str) -> str:
    first, second = graph.producer(a), graph.producer(b)
    holds = first is not None and second is not None and graph.position(first) < graph.position(second)
    return "" if holds else f"the producer of '{a}' does not come before that of '{b}'"


def _graph_input(graph: Graph, x: str) -> str:
    return "" if x in graph.inputs else f"'{x}' is not a graph input"


def _graph_output(graph: Graph, x: str) -> str:
    return "" if x in graph.outputs else f"'{x}' is not a graph output"


def _paired(graph: Graph, x: str) -> str:
    on = pairs(graph).at(x) or pairs(graph).made(x)
    return "" if on else f"'{x}' has no pair"


def _moves(graph: Graph, x: str) -> str:
    maker = graph.producer(x)
    holds = maker is not None and move_of(graph, maker) is not None
    return "" if holds else f"'{x}' is not the output of a data-movement op"


def _carries_int8(graph: Graph, x: str) -> str:
    maker = graph.producer(x)
    if maker is None or move_of(graph, maker) is None:
        return f"'{x}' is not the output of a data-movement op"
    holds = shared_scale_sites(graph, maker) is not None
    return "" if holds else f"no reader downstream of '{x}' takes INT8, and not all its producer's inputs are quantized"


def _feeds_int8(graph: Graph, x: str) -> str:
    return "" if x in sites(graph).feeds else f"'{x}' reaches no pair"


def _same_shape(graph: Graph, a: str, b: str) -> str:
    first, second = graph.shape(a), graph.shape(b)
    if first is None or second is None:
        return f"the shape of '{a if first is None else b}' is unknown"
    return "" if first == second and None not in first else f"'{a}' is {list(first)}, '{b}' is {list(second)}"


def _rank(graph: Graph, x: str, rank: float) -> str:
    shape = graph.shape(x)
    if shape is None:
        return f"the rank of '{x}' is unknown"
    return "" if len(shape) == rank else f"'{x}' has rank {len(shape)}"


def _dtype(graph: Graph, x: str, wanted: str) -> str:
    found = graph.dtype(x) if x else None
    name = "unknown" if found is None else onnx.TensorProto.DataType.Name(found)
    return "" if name == wanted else f"the type of '{x}' is {name.lower()}"


def _opset(graph: Graph, low: float, high: float = math.inf) -> str:
    return "" if low <= graph.opset <= high else f"the model's opset is {graph.opset}"


def _constant_text(graph: Graph, x: str) -> str:
    value = graph.value(x) if x else None
    if value is None:
        return f"'{x}'" if x else "an absent input"
    return f"'{x}' ({float(value.reshape(-1)[0]):.9g})" if value.size == 1 else f"'{x}' ({value.size} elements)"


PREDICATES: Mapping[str, Predicate] = {
    "same_value": Predicate(
        ("variable", "variable"),
        "Both are the same tensor, or constants with the same elements: bit for bit in one type, or equal numbers in "
        "two floating-point types.",
        "same_value(s, t)",
        _same_value,
    ),
    "constant": Predicate(("variable",), "It is computed from constants only.", "constant(w)", _constant),
    "scalar": Predicate(("variable",), "It has exactly one element.", "scalar(s)", _scalar),
    "zero": Predicate(
        ("variable",), "It is a constant, and all zero; an absent input counts as zero.", "zero(z)", _zero
    ),
    "above": Predicate(
        ("variable", "number"), "It is a constant, and every element is larger than the number.", "above(s, 0)", _above
    ),
    "sole_consumer": Predicate(
        ("variable",),
        "Exactly one node input reads it, and it is not a graph output.",
        "sole_consumer(q)",
        _sole_consumer,
    ),
    "fanout": Predicate(
        ("variable", "number", "number?"),
        "This many node inputs and graph outputs read it: exactly this number, or from the first to the second.",
        "fanout(x, 2, 4)",
        _fanout,
    ),
    "followed_by": Predicate(
        ("variable", "operator*"),
        "All its consumers are of these operators, and it is not a graph output.",
        "followed_by(y, Conv, Gemm)",
        _followed_by,
    ),
    "read_by": Predicate(
        ("variable", "operator*"), "At least one of its consumers is of these operators.", "read_by(y, Conv)", _read_by
    ),
    "made_by": Predicate(
        ("variable", "operator*"), "Its producer is one of these operators.", "made_by(x, Relu)", _made_by
    ),
    "before": Predicate(
        ("variable", "variable"),
        "The producer of the first comes earlier in the file; avoids a second match with the two exchanged.",
        "before(q1, q2)",
        _before,
    ),
    "graph_input": Predicate(("variable",), "It is a graph input.", "graph_input(x)", _graph_input),
    "graph_output": Predicate(("variable",), "It is a graph output.", "graph_output(y)", _graph_output),
    "paired": Predicate(
        ("variable",), "It has a plain activation pair, or a pair produces it.", "not paired(x)", _paired
    ),
    "moves": Predicate(
        ("variable",),
        "Its producer is a data-movement op: Q and DQ commute with it (Concat, MaxPool, Reshape, zero Pad …).",
        "moves(y)",
        _moves,
    ),
    "carries_int8": Predicate(
        ("variable",),
        "Its producer is a data-movement op between INT8 tensors, so all its tensors must share one scale.",
        "carries_int8(y)",
        _carries_int8,
    ),
    "feeds_int8": Predicate(
        ("variable",),
        "Its values reach a pair through data-movement, average and element-wise ops only.",
        "feeds_int8(y)",
        _feeds_int8,
    ),
    "same_shape": Predicate(
        ("variable", "variable"), "Both shapes are known and equal.", "same_shape(a, b)", _same_shape
    ),
    "rank": Predicate(("variable", "number"), "It has this many dimensions.", "rank(x, 4)", _rank),
    "dtype": Predicate(("variable", "type"), "Its type is this ONNX type.", "dtype(b, int32)", _dtype),
    "opset": Predicate(
        ("number", "number?"),
        "The model's opset is at least the first number, and at most the second.",
        "opset(13, 20)",
        _opset,
    ),
}

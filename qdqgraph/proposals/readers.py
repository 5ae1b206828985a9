"""What finally reads a quantized constant: a bias, an operand, weights of an INT8 layer."""

from __future__ import annotations

from ..graph.graph import Graph, input_name, key
from ..graph.moves import move_of
from ..graph.pair import Pair, is_pair
from ..graph.quantization import Quantization
from ..graph.sites import sites
from ..operators import JOINS, MOVES, SAME_CONSTANT, WEIGHTED
from .folding import store_floats
from .proposal import Graft, SetPair
from .weights import dequantized_weights, pair_readers, real_weights

MOVED = MOVES | SAME_CONSTANT
FLOATS = "store its exact float values, of four times the size: no INT8 layer reads them"
"""The advice of a finding whose repair is `keep_exact`."""
STEPS = 32
"""Largest number of data-movement ops that are followed upstream of a layer."""


def feeds_int8(graph: Graph, pair: Pair) -> bool:
    """Whether an INT8 layer reads a constant pair, directly or through data-movement ops: a convolution or matrix
    product whose other operand is quantized."""
    pending, seen = list(pair_readers(graph, pair)), set[tuple[str, int]]()
    while pending:
        reader = pending.pop()
        node = reader.node
        if reader.key in seen:
            continue
        seen.add(reader.key)
        if node.op in WEIGHTED and reader.index in (0, 1):
            if is_quantized(graph, input_name(node, 1 - reader.index)):
                return True
        elif (
            graph.is_constant(key(node)) or node.op in JOINS or (node.op in MOVES | SAME_CONSTANT and not reader.index)
        ):
            pending += [r for t in node.outputs for r in graph.readers(t.name)]
    return False


def is_quantized(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is quantized, or will be: its values come from a pair through data-movement ops, or its range is
    known from one."""
    pending, seen = [tensor], set[str]()
    while pending and len(seen) < STEPS:
        name = pending.pop()
        node = graph.producer(name)
        if name in sites(graph).covered or (node is not None and is_pair(node)):
            return True
        if node is None or name in seen:
            continue
        seen.add(name)
        move = move_of(graph, node)
        pending += move[0] if move is not None else [input_name(node, 0)] * (node.op in SAME_CONSTANT)
    return False


def keep_exact(graph: Graph, pair: Pair, edit: SetPair | Graft | None) -> tuple[Graft, ...]:
    """A constant pair as float initializers, bit for bit, if no INT8 layer reads it and the edit that makes it INT8
    would round it again; else empty."""
    if pair.kind == "activation" or not isinstance(edit, SetPair) or feeds_int8(graph, pair):
        return ()
    before, own = (
        dequantized_weights(graph, pair),
        Quantization(edit.scale.array, edit.zero_point.array, edit.axis or 0),
    )
    reals = real_weights(graph, pair)
    if before is None or reals is None or not pair_readers(graph, pair):
        return ()
    integers = own.quantize(reals) if edit.integers is None else edit.integers.array
    return () if own.dequantize(integers).tobytes() == before.tobytes() else store_floats(graph, pair)

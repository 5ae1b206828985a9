"""`Operand`: the integers that a weighted node multiplies, and the scale of each output channel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from ...graph.graph import Graph, input_name, key
from ...graph.moves import move_of
from ...graph.pair import Pair, pairs
from ...graph.quantization import Quantization
from ...model.constants import computed
from ...operators import VIEWS

KEEPS_SCALE = VIEWS | {"Transpose"}
"""Operators between a weight's DQ and its reader that move scales and integers alike."""
WHOLE_BYTES = (np.int8, np.uint8)
"""Types of integers whose products an INT8 kernel adds up."""


@dataclass(frozen=True, eq=False)
class Operand:
    """One input of a weighted node.

    Attributes:
        scale: float32; of an activation [] ; of constant weights in their shape, one for each weight.
        largest: the largest magnitude of an integer.
        pair: the pair that quantizes it.
        integers: the integers of constant weights as float32, in the shape in which the node reads them; None for an
            activation.
    """

    scale: NDArray[np.float32]
    largest: int
    pair: Pair
    integers: NDArray[np.float32] | None = field(default=None)


def operand(graph: Graph, node: gs.Node, index: int) -> Operand | None:
    """The integers at an input of a weighted node; None if it reads none of 8 bits, or their scale is unknown."""
    name = input_name(node, index)
    return _weights(graph, name) if graph.is_constant(name) else _activation(graph, name)


def pair_before(graph: Graph, tensor: str) -> Pair | None:
    """The pair whose DQ produces a tensor, also upstream of data movement; None if there is none."""
    table = pairs(graph)
    while (pair := table.made(tensor)) is None:
        node = graph.producer(tensor)
        move = None if node is None else move_of(graph, node)
        if move is None:
            return None
        tensor = move[0][0]
    return pair


def _activation(graph: Graph, name: str) -> Operand | None:
    pair = pair_before(graph, name)
    if pair is None or not pair.per_tensor or not _is_whole(pair):
        return None
    assert pair.scale is not None and pair.zero_point is not None
    bounds, zero = np.iinfo(pair.zero_point.dtype), pair.zero_point.reshape(-1).astype(np.int64)
    largest = int(max((zero - bounds.min).max(), (bounds.max - zero).max()))
    return Operand(pair.scale.astype(np.float32).reshape(()), largest, pair)


def _weights(graph: Graph, name: str) -> Operand | None:
    chain: list[gs.Node] = []
    while (pair := pairs(graph).made(name)) is None:
        node = graph.producer(name)
        if node is None or node.op not in KEEPS_SCALE:
            return None
        chain.append(node)
        name = node.inputs[0].name
    quantization, stored = Quantization.of(pair), graph.value(pair.tensor)
    if quantization is None or stored is None or not _is_whole(pair) or not quantization.fits(stored):
        return None
    integers = stored if pair.quantize is None else quantization.quantize(stored)
    steps = integers.astype(np.float32) - quantization.along(quantization.zero_point, stored.ndim).astype(np.float32)
    scale = quantization.along(quantization.scale.astype(np.float32), stored.ndim)
    both = (steps, np.broadcast_to(scale, steps.shape))
    for node in reversed(chain):
        moved = [_moved(graph, node, array) for array in both]
        if moved[0] is None or moved[1] is None:
            return None
        both = (moved[0], moved[1])
    return Operand(both[1], int(np.abs(steps).max(initial=0)), pair, both[0])


def _moved(graph: Graph, node: gs.Node, array: NDArray[np.float32]) -> NDArray[np.float32] | None:
    constants = {t.name: graph.value(t.name) for t in node.inputs[1:] if t.name}
    proto = graph.proto(node)
    given = {n: a for n, a in constants.items() if a is not None}
    return computed(proto, {proto.input[0]: np.ascontiguousarray(array), **given}, graph.opset).get(key(node))


def _is_whole(pair: Pair) -> bool:
    return pair.zero_point is not None and pair.zero_point.dtype in WHOLE_BYTES and not pair.blocked

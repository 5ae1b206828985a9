"""Where TensorRT moves Q and DQ to: which tensors can be stored as INT8, and with which scale.

A Q moves backward over layers that commute with rounding until it reaches the producer of the values; a DQ moves
forward until it reaches a layer that computes with them. Scales are compared as numbers,
with zero-points and types of the integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from ...graph.graph import Graph
from ...graph.moves import Move, move_of
from ...graph.pair import Pair, pairs
from ...graph.sites import Use, sites
from ...operators import SHAPES

ScaleKey = bytes
"""What `Pair.scale_key` is."""


def site_of(graph: Graph, tensor: str) -> str:
    """The tensor whose values these are, seen through all activation pairs upstream of it.

    Plain INT8 ones, those of FP8, and those that TensorRT refuses, as for a zero-point: a forecast of a refused file is
    what TensorRT would build otherwise.
    """
    table = pairs(graph)
    site = table.root(tensor)
    while (pair := table.made(site)) is not None and _is_other(pair):
        site = table.root(pair.tensor)
    return site


def _is_other(pair: Pair) -> bool:
    """Whether an activation pair is none of those through which `Pairs.root` sees."""
    return pair.kind == "activation" and pair.quantize is not None and not pair.tieable


def values(graph: Graph, site: str) -> tuple[Use, ...]:
    """The uses of a site that read its values, without those that read only its shape; seen through all pairs."""
    known = graph.known(values)
    found = known.get(site)
    if found is None:
        found = known[site] = tuple(_values(graph, site))
    return found


def _values(graph: Graph, site: str) -> Iterator[Use]:
    for use in sites(graph).uses(site):
        pair = pairs(graph).of(use.reader.node) if use.reader.node.op == "QuantizeLinear" else None
        if pair is not None and _is_other(pair):
            made = [use for d in pair.dequantizes for use in sites(graph).uses(d.outputs[0].name)]
            yield from (Use(u.reader, u.tensor, pair) for u in made if u.pair is pair)
        elif use.reader.node.op not in SHAPES:
            yield use


class Propagation:
    """The scale with which each tensor's readers want it; computed once per graph, in linear time.

    Attributes:
        wanted: tensors whose readers all take INT8 with one scale, directly or through data-movement ops, with that
            scale.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.table = graph, pairs(graph)
        self.leaving = self._leaving()
        self.wanted: dict[str, ScaleKey] = {}
        self._quantizing: dict[str, Mapping[ScaleKey, Pair]] = {}
        for node in reversed(graph.nodes()):
            for tensor in node.outputs:
                if tensor.name in self.leaving or not graph.is_constant(tensor.name):
                    self._settle(tensor.name)
        for name in graph.inputs:
            self._settle(name)

    def _leaving(self) -> dict[str, list[Pair | None]]:
        """Sites that are network outputs, with the pair between site and output, None without one."""
        found: dict[str, list[Pair | None]] = {}
        for name in sorted(self.graph.outputs):
            found.setdefault(site_of(self.graph, name), []).append(self.table.made(name))
        return found

    def quantizing(self, tensor: str) -> Mapping[ScaleKey, Pair]:
        """The pairs at a tensor, also between it and a network output: by their scales, the first one of each."""
        if tensor not in self._quantizing:
            found = (*(use.pair for use in values(self.graph, tensor)), *self.leaving.get(tensor, ()))
            self._quantizing[tensor] = {p.scale_key: p for p in reversed(found) if p is not None}
        return self._quantizing[tensor]

    def _settle(self, tensor: str) -> None:
        """Records what the readers of a site want if all want the same scale."""
        wishes = {self.wish(use) for use in values(self.graph, tensor)}
        wishes.update(None if pair is None else pair.scale_key for pair in self.leaving.get(tensor, ()))
        if len(wishes) == 1 and (scale := wishes.pop()) is not None:
            self.wanted[tensor] = scale

    def wish(self, use: Use) -> ScaleKey | None:
        """What a use wants: the scale of its pair; at a data-movement op, the scale that all readers of its results
        want; None for floating point."""
        if use.pair is not None:
            return use.pair.scale_key
        move = passes(self.graph, use.reader.node) if use.reader.index >= 0 else None
        if move is None or use.tensor not in move[0]:
            return None
        after = {self.wanted.get(made) for made in move[1]}
        return after.pop() if len(after) == 1 else None


def passes(graph: Graph, node: gs.Node) -> Move | None:
    """Data inputs and outputs of a node over which Q and DQ move; None if they do not.

    A Pad of dimensions other than the last two becomes a Slice with fill; in NVIDIA's TensorFlow ResNet-50 engine the Q
    stays downstream of it. The target lists operators over which no engine of its generation moved a Q, and how many
    spatial dimensions its INT8 max pools have.
    """
    move = move_of(graph, node)
    if move is None or node.op in graph.target.unmoved or not pools_int8(graph, node):
        return None
    if node.op != "Pad":
        return move
    amounts = graph.value(node.inputs[1].name) if len(node.inputs) > 1 else node.attrs.get("pads")
    shape = graph.shape(move[0][0])
    if amounts is None or shape is None:
        return None
    half = len(shape)
    inner = {half - 1, half - 2}
    pads = np.ravel(amounts)
    if pads.dtype.kind != "i" or len(pads) != 2 * half:
        return None
    return move if all(not p for i, p in enumerate(pads) if i % half not in inner) else None


def carries_dequantize(graph: Graph, node: gs.Node) -> bool:
    """Whether a DQ moves over a node too (F14)."""
    zeros = node.op != "Pad" or node.attrs.get("mode", "constant") == "constant"
    return passes(graph, node) is not None and not (node.op in graph.target.undequantized and zeros)


def pools_int8(graph: Graph, node: gs.Node) -> bool:
    """Whether the target has an INT8 kernel for a node if it is a MaxPool; true for every other node (R16)."""
    shape = graph.shape(node.outputs[0].name) if node.op == "MaxPool" else None
    return shape is None or len(shape) <= 2 + graph.target.max_pool_dimensions

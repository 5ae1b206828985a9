"""`Block`: the nodes of one kernel of a forecast, and the types in which it reads and writes memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs
from onnx import TensorProto

from ...graph.graph import Graph, key
from ...graph.pair import pairs
from ...operators import VIEWS
from ..forecast.forecast import forecast
from ..forecast.kernels import VIEW, Partition
from ..layers import Engine, Layer

HALVES: Mapping[str, int] = {"FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}
"""Precisions of 16 bits, in which an engine stores a tensor rounded."""
EIGHT_BITS = ("INT8", "FP8")
"""Precisions of kernels that multiply quantized values."""


@dataclass(frozen=True, eq=False)
class Block:
    """One kernel.

    Attributes:
        layer: the layer of the forecast.
        nodes: its nodes, in file order; without the Q and DQ that it absorbs.
        core: its weighted node; None for any other kernel.
        reads: the precisions in which it reads each tensor, by the tensor that is stored.
    """

    layer: Layer
    nodes: tuple[gs.Node, ...]
    core: gs.Node | None
    reads: Mapping[str, frozenset[str]]

    @property
    def end(self) -> str:
        """Its output tensor; of several the first."""
        return key(self.nodes[-1])

    @property
    def quantized(self) -> bool:
        """Whether it computes products of 8-bit values."""
        return self.core is not None and self.layer.precision in EIGHT_BITS

    @property
    def half(self) -> int | None:
        """The 16-bit type of its floating-point kernel; None if it computes in 8 bits or FP32."""
        if self.core is None or self.quantized:
            return None
        around = {t.precision for t in (*self.layer.inputs, *self.layer.outputs)}
        return next((kind for name, kind in HALVES.items() if name in around), None)

    def narrowed(self, tensor: str) -> int | None:
        """The 16-bit type in which it reads a stored tensor; None if it reads FP32 or INT8."""
        read = self.reads.get(tensor, frozenset())
        return next((kind for name, kind in HALVES.items() if name in read), None)


def source(graph: Graph, tensor: str) -> str:
    """The tensor that is stored: the tensor itself, seen through pairs and views."""
    table = pairs(graph)
    name = table.root(tensor)
    while (node := graph.producer(name)) is not None and node.op in VIEWS and node.inputs[0].name:
        name = table.root(node.inputs[0].name)
    return name


def written(engine: Engine) -> dict[str, str]:
    """The precision in which each tensor that a kernel computes is stored, by its name; for one that is converted to
    the type of a network output afterwards, the precision before that."""
    found: dict[str, str] = {}
    for layer in engine.layers:
        kind = found.get(layer.inputs[0].name) if layer.cause == "type" else None
        if kind is not None or not layer.cause:
            found.update({t.name: kind or t.precision for t in layer.outputs})
    return found


def of_libraries(graph: Graph, engine: Engine) -> tuple[Graph, Engine]:
    """The graph and its forecast without generated kernels: where a Q or DQ runs does not change its numbers."""
    if not graph.target.pairs_inside:
        return graph, engine
    aimed = graph.aimed_at(graph.target.of_libraries)
    return aimed, forecast(aimed, engine.name)


def blocks(graph: Graph, engine: Engine) -> tuple[Block, ...]:
    """The kernels of a forecast of this graph, in execution order.

    A layer is found by the tensors that it writes, which are unique, unlike the names of nodes.
    """
    origin: dict[str, str] = {}
    layers: dict[str, Layer] = {}
    for layer in engine.layers:
        if layer.cause:
            origin.update({t.name: layer.inputs[0].name for t in layer.outputs if t.name != layer.inputs[0].name})
            if layer.cause == "type" and (writer := layers.get(layer.inputs[0].name)) is not None:
                layers.update({t.name: writer for t in layer.outputs})  # an FP16 result as an FP32 network output
        else:
            layers.update({t.name: layer for t in layer.outputs})
    found: list[Block] = []
    kernels = [k for k in Partition(graph).kernels if k.kind != VIEW]
    unstored = {k.end: k for k in kernels if k.end not in layers}
    for kernel in kernels:
        if kernel.end in unstored:
            continue  # a node downstream, such as a MaxPool that fuses, writes its result: it belongs to that layer
        before = [unstored[t.name] for node in kernel.nodes for t in node.inputs if t.name in unstored]
        nodes = sorted((*(n for k in before for n in k.nodes), *kernel.nodes), key=graph.position)
        core = next((k.core for k in (kernel, *before) if k.core is not None), None)
        layer = layers[kernel.end]
        found.append(Block(layer, tuple(nodes), core, _reads(layer, origin)))
    return tuple(found)


def _reads(layer: Layer, origin: Mapping[str, str]) -> dict[str, frozenset[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for tensor in layer.inputs:
        name, seen = tensor.name, set[str]()
        while name in origin and name not in seen:
            seen.add(name)
            name = origin[name]
        found[name].add(tensor.precision)
    return {name: frozenset(kinds) for name, kinds in found.items()}

"""`Comparison`: one network that computes a Q/DQ graph as ONNX Runtime and as an engine do, and their differences.

Each kernel is computed alone, from the inputs that ONNX Runtime computes, and in the whole engine. The differences are
reduced in the network, so only network outputs leave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from ...graph.casts import has_half
from ...graph.graph import Graph
from ...graph.moves import move_of
from ...graph.pair import Pair, pairs
from ...graph.sites import sites
from ...operators import SHAPED_BY_VALUES
from ..layers import Engine
from .blocks import HALVES, Block, blocks, of_libraries, written
from .evaluation import REALS, Evaluation, evaluate
from .network import FLOAT, Network
from .operands import WHOLE_BYTES


@dataclass(frozen=True)
class Sums:
    """Outputs of the network with the differences of two values of one tensor.

    Attributes:
        signal, noise, largest: the sums of value ** 2 and difference ** 2, and the largest difference.
        differ, steps, size: the number of integers that differ, the largest difference in steps, and the number of
            integers; empty if the tensor is not quantized.
    """

    signal: str
    noise: str
    largest: str
    differ: str = ""
    steps: str = ""
    size: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(filter(None, (self.signal, self.noise, self.largest, self.differ, self.steps, self.size)))


@dataclass(frozen=True, eq=False)
class Compared:
    """One kernel.

    Attributes:
        block: the kernel.
        stored: the precision in which its result is stored.
        scale: the scale of the integers that are compared; None if its result is not quantized.
        alone: its differences from equal inputs; None if its arithmetic is the same in both.
        accumulated: its differences in the whole engine.
    """

    block: Block
    stored: str
    scale: float | None
    alone: Sums | None
    accumulated: Sums


@dataclass(frozen=True, eq=False)
class Comparison:
    """The network, and where its results are.

    Attributes:
        model: the network; its inputs are those of the graph.
        kernels: the kernels that compute with floating-point values or their integers, in execution order.
        outputs: the graph's outputs, with the names of ONNX Runtime's and the engine's values.
        unfit: INT8 kernels that are computed in FP32, by label of the weighted node, with the reason.
        skipped: kernels that are not compared, by output tensor, with the reason.
    """

    model: onnx.ModelProto
    kernels: tuple[Compared, ...]
    outputs: dict[str, tuple[str, str]]
    unfit: dict[str, str]
    skipped: dict[str, str]


def comparison(graph: Graph, engine: Engine) -> Comparison:
    """The network that compares a Q/DQ graph in ONNX Runtime with its forecast engine.

    Args:
        graph: the Q/DQ graph, without local functions.
        engine: its forecast.
    """
    return _Building(graph, engine).run()


class _Building:
    def __init__(self, graph: Graph, engine: Engine) -> None:
        self.graph, self.network = graph, Network(graph.model)
        plain, known = of_libraries(graph, engine)
        self.blocks, self.stored = blocks(plain, known), written(known)
        self.half = has_half(graph.model)
        self.results: dict[str, int] = {}

    def run(self) -> Comparison:
        whole = evaluate(self.graph, self.network, self.stored, self.blocks)
        kernels: list[Compared] = []
        skipped: dict[str, str] = {}
        varying = _shaped_by_values(self.graph)
        for block in self.blocks:
            if move_of(self.graph, block.nodes[-1]) is not None and block.core is None:
                continue
            if self.graph.dtype(block.end) not in REALS:
                continue
            if block.end in varying:
                skipped[block.end] = "its shape depends on values"
                continue
            pair = self._pair(block.end)
            alone = None
            if self._differs(block):
                only = Evaluation(self.graph, self.network, self.stored, alone=True)
                only.block(block)
                alone = self._sums(block.end, only.values[block.end], pair)
            scale = None if pair is None else pair.value
            accumulated = self._sums(block.end, whole.values[block.end], pair)
            kernels.append(Compared(block, self.stored[block.end], scale, alone, accumulated))
        ends = [o.name for o in self.graph.model.graph.output if not self.graph.is_constant(o.name)]
        outputs = {name: (name, self._output(whole, name)) for name in ends}
        for both in outputs.values():
            self.results.update({name: self.graph.dtype(both[0]) or 0 for name in both})
        return Comparison(self.network.finish(self.results), tuple(kernels), outputs, whole.unfit, skipped)

    def _differs(self, block: Block) -> bool:
        """Whether a kernel's arithmetic can differ from ONNX Runtime's."""
        around = {t.precision for t in (*block.layer.inputs, *block.layer.outputs)}
        return self.half or block.quantized or not around.isdisjoint(HALVES)

    def _output(self, whole: Evaluation, name: str) -> str:
        value, kind = whole.value(name), self.graph.dtype(name)
        typed = self.network.cast(value, kind) if kind in REALS and kind != FLOAT else value
        return self.network.node("Identity", [typed])

    def _pair(self, tensor: str) -> Pair | None:
        """The pair whose integers are compared: one that reads a tensor, also downstream of data movement."""
        pending, seen = [tensor], set[str]()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            for pair in self._readers(name):
                if pair.per_tensor and pair.zero_point is not None and pair.zero_point.dtype in WHOLE_BYTES:
                    return pair
            for use in sites(self.graph).uses(name):
                if use.pair is None and use.reader.index >= 0 and (move := move_of(self.graph, use.reader.node)):
                    pending += move[1]
        return None

    def _readers(self, name: str) -> Iterator[Pair]:
        table = pairs(self.graph)
        for reader in self.graph.readers(name):
            if reader.node.op == "QuantizeLinear" and (pair := table.of(reader.node)) is not None:
                yield pair

    def _sums(self, tensor: str, found: str, pair: Pair | None) -> Sums:
        """The differences of ONNX Runtime's value of a tensor and another one."""
        network = self.network
        reference = network.cast(tensor, FLOAT) if self.graph.dtype(tensor) != FLOAT else tensor
        both, exact = (reference, found), (reference, found)
        differ = steps = size = ""
        if pair is not None and pair.zero_point is not None:
            scale = network.constant(np.array(pair.value, np.float32), "scale")
            zero = network.constant(pair.zero_point.reshape(()), "zero")
            stored = [network.node("QuantizeLinear", [name, scale, zero]) for name in both]
            wide = [network.cast(name, TensorProto.INT32) for name in stored]
            apart = network.node("Abs", [network.node("Sub", wide)])
            unequal = network.cast(network.cast(apart, TensorProto.BOOL), TensorProto.INT64)
            differ = network.node("ReduceSum", [unequal], keepdims=0)
            steps, size = network.node("ReduceMax", [apart], keepdims=0), network.node("Size", [apart])
            if self.stored.get(tensor) == "INT8":
                first, second = (network.node("DequantizeLinear", [name, scale, zero]) for name in stored)
                exact = (first, second)
        difference = network.node("Sub", [exact[1], exact[0]])
        sums = Sums(
            network.node("ReduceSumSquare", [exact[0]], keepdims=0),
            network.node("ReduceSumSquare", [difference], keepdims=0),
            network.node("ReduceMax", [network.node("Abs", [difference])], keepdims=0),
            differ,
            steps,
            size,
        )
        integers = {differ: TensorProto.INT64, steps: TensorProto.INT32, size: TensorProto.INT64}
        self.results.update({name: integers.get(name, FLOAT) for name in sums.names})
        return sums


def _shaped_by_values(graph: Graph) -> frozenset[str]:
    """Tensors whose shape depends on values: ONNX Runtime's and the engine's may have different ones."""
    found: set[str] = set()
    for node in graph.nodes():
        if node.op in SHAPED_BY_VALUES or any(t.name in found for t in node.inputs):
            found.update(t.name for t in node.outputs if t.name)
    return frozenset(found)

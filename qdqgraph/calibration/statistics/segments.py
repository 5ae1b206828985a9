"""Cuts a network into segments that run one after another within a limit of memory.

Every tensor to measure is an output, which ONNX Runtime keeps until the run ends; together they can exceed the memory
many times. A segment has few of them. What later segments read is passed on, so nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from ...errors import ModelError
from ...model.protos import key, reads, refill
from ...operators import RANDOM


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of a network.

    Attributes:
        model: the part as a model of its own, with its own constants.
        inputs: graph inputs and results of earlier segments that it reads.
        outputs: the tensors to measure that it computes, then those that later segments read.
        last: tensors that no later segment reads, of inputs and outputs.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: frozenset[str]


def segments(
    model: onnx.ModelProto, taps: Iterable[str], sizes: Mapping[str, int], types: Mapping[str, int], budget: int
) -> list[Segment]:
    """The segments of a network, as few as the budget allows.

    Args:
        model: the network; its nodes are sorted.
        taps: the tensors to measure. Nodes run in the order in which the taps need them.
        sizes: bytes of each tensor.
        types: element type of each tensor. A segment does not end where a tensor of unknown type is passed on.
        budget: bytes for tensors: at every moment the tensors that exist take less.

    Raises:
        ModelError: one node needs more than the budget.
    """
    return _Cutting(model, taps, sizes, types, budget).run()


class _Cutting:
    def __init__(
        self,
        model: onnx.ModelProto,
        taps: Iterable[str],
        sizes: Mapping[str, int],
        types: Mapping[str, int],
        budget: int,
    ) -> None:
        self.model, self.taps, self.sizes, self.types, self.budget = model, dict.fromkeys(taps), sizes, types, budget
        self.given = [i.name for i in model.graph.input]
        constant = {t.name for t in model.graph.initializer}
        self.constants: dict[str, tuple[int, onnx.NodeProto]] = {}
        """What computes each constant, and its position in the file."""
        varying: list[onnx.NodeProto] = []
        for index, node in enumerate(model.graph.node):
            if node.op_type not in RANDOM and all(name in constant for name in reads(node)):
                constant.update(node.output)
                self.constants.update({name: (index, node) for name in node.output if name})
            else:
                varying.append(node)
        self.nodes = _upstream(varying, self.taps)
        self.reads = [[name for name in reads(node) if name not in constant] for node in self.nodes]
        self.last_read: dict[str, int] = {}
        for index, read in enumerate(self.reads):
            self.last_read.update(dict.fromkeys(read, index))
        self.made_at = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}

    def run(self) -> list[Segment]:
        found: list[Segment] = []
        start = 0
        while start < len(self.nodes):
            stop = self._stop(start)
            found.append(self._segment(start, stop))
            start = stop
        return found

    def _stop(self, start: int) -> int:
        """The end of the longest segment from `start` on that the budget allows."""
        fits, fails = start, len(self.nodes)
        if self._peak(start, fails) <= self.budget:
            return fails
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self._peak(start, middle) <= self.budget:
                fits = middle
            else:
                fails = middle
        stop = next((s for s in range(fits, start, -1) if self._typed(s)), None)
        if stop is None:
            node = self.nodes[fits]
            need = self._peak(start, start + 1)
            raise ModelError(
                f"node {node.name or key(node)!r} ({node.op_type}) needs {need:,} bytes for its tensors, and "
                f"the memory limit leaves {max(0, self.budget):,}: raise --memory"
            )
        return stop

    def _typed(self, stop: int) -> bool:
        return all(self.types.get(name) for name in self._passed(stop))

    def _passed(self, stop: int) -> list[str]:
        """What is computed before node `stop`, or given, and read from there on."""
        names = (*self.given, *self.made_at)
        return [n for n in names if self.made_at.get(n, -1) < stop <= self.last_read.get(n, -1)]

    def _peak(self, start: int, stop: int) -> int:
        """The most bytes that exist at once while nodes `start` to `stop` run."""
        size = self.sizes.get
        live = sum(size(name, 0) for name in self._passed(start))
        peak = live
        for index in range(start, stop):
            made = [name for name in self.nodes[index].output if name]
            live += sum(size(name, 0) for name in made)
            peak = max(peak, live)
            for name in {*self.reads[index], *made}:
                inside = self.made_at.get(name, -1) >= start and self.last_read.get(name, index) == index
                if inside and name not in self.taps:
                    live -= size(name, 0)
        return peak

    def _segment(self, start: int, stop: int) -> Segment:
        nodes = self.nodes[start:stop]
        made = {name for node in nodes for name in node.output if name}
        read = {name for index in range(start, stop) for name in self.reads[index]}
        later = self._passed(stop)
        inputs = [name for name in (*self.given, *self.made_at) if name in read and name not in made]
        taps = [name for node in nodes for name in node.output if name in self.taps]
        outputs = [*taps, *(name for name in later if name in made and name not in self.taps)]
        model = self._part(nodes, inputs, outputs)
        return Segment(model, tuple(inputs), tuple(outputs), frozenset((*inputs, *outputs)) - set(later))

    def _part(self, nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
        new = onnx.ModelProto(ir_version=self.model.ir_version)
        refill(new.opset_import, self.model.opset_import)
        refill(new.functions, self.model.functions)
        graph = new.graph
        graph.name = self.model.graph.name or "part"
        needed, ordered = set[str](), list[onnx.NodeProto]()
        for node in nodes:
            ordered += [*self._computed(reads(node), needed), node]
        refill(graph.node, ordered)
        refill(graph.initializer, [t for t in self.model.graph.initializer if t.name in needed])
        refill(graph.sparse_initializer, self.model.graph.sparse_initializer)
        declared = {i.name: i for i in self.model.graph.input}
        for name in inputs:
            graph.input.append(declared.get(name) or helper.make_tensor_value_info(name, self.types[name], None))
        for name in outputs:
            graph.output.append(helper.make_tensor_value_info(name, self.types.get(name, 0), None))
        return new

    def _computed(self, names: Iterable[str], needed: set[str]) -> list[onnx.NodeProto]:
        """The nodes that compute what a node reads of constants, without those that compute `needed` ones, in file
        order; what they read is added to `needed`.

        ONNX Runtime runs them when they come: weights that are dequantized just before their layer are not all in
        memory together.
        """
        found, pending = dict[int, onnx.NodeProto](), [*names]
        while pending:
            name = pending.pop()
            if name not in needed and name in self.constants:
                index, node = self.constants[name]
                found[index] = node
                needed.update(node.output)
                pending += reads(node)
            needed.add(name)
        return [found[index] for index in sorted(found)]


def _upstream(nodes: Sequence[onnx.NodeProto], taps: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that the taps depend on: those of the first tap, then what the second one needs beside, and so on."""
    made_at = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    order: dict[int, None] = {}
    for tap in taps:
        needed, pending = set[int](), [tap]
        while pending:
            index = made_at.get(pending.pop())
            if index is not None and index not in order and index not in needed:
                needed.add(index)
                pending += reads(nodes[index])
        order.update(dict.fromkeys(sorted(needed)))
    return [nodes[index] for index in order]

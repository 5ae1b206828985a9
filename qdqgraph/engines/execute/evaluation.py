"""`Evaluation`: the nodes of a graph with the arithmetic of an engine, added to a network of the graph itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from ...graph.graph import Graph, key, label
from ...graph.imported import captured
from ...graph.pair import is_pair
from ...model.protos import is_standard, reads, rename_inputs, subgraphs
from ...model.rounding import widen
from ...operators import PAIRS, VIEWS
from .blocks import HALVES, Block, source
from .network import FLOAT, Network
from .products import UnfitError, product

NARROW = frozenset(HALVES.values())
REALS = NARROW | {TensorProto.FLOAT}
PASSIVE = PAIRS | VIEWS
"""Operators that are not part of a kernel of their own: pairs that kernels absorb, and views."""


class Evaluation:
    """Values of tensors as an engine computes them.

    All floating-point tensors are FP32 in the network. Where the engine stores a tensor in 16 bits, it is rounded to
    them; inside a kernel nothing is rounded.

    Args:
        graph: the Q/DQ graph.
        network: a copy of its model.
        stored: the precision in which each tensor is stored, by name.
        blocks: the kernels whose nodes are evaluated in them.
        alone: whether only chosen kernels are evaluated, from the tensors that ONNX Runtime computes; else every node.

    Attributes:
        unfit: INT8 kernels that are computed in FP32, by label of the weighted node, with the reason.
    """

    def __init__(
        self, graph: Graph, network: Network, stored: Mapping[str, str], blocks: Iterable[Block] = (), *, alone: bool
    ) -> None:
        self.graph, self.network, self.stored, self.alone = graph, network, stored, alone
        self._owners = {id(node): block for block in blocks for node in block.nodes}
        self.values: dict[str, str] = {}
        self.unfit: dict[str, str] = {}

    def value(self, tensor: str) -> str:
        """The name in the network of a tensor's value: FP32 for floating-point tensors, else in its own type."""
        tensor = self.graph.source(tensor)
        pending = [tensor]  # not recursion: chains of views, and of nodes that the file lists in reverse, may be long
        while pending:
            node = self._unevaluated(pending[-1])
            above = [] if node is None else [n for n in self._sources(node) if self._unevaluated(n) is not None]
            if above:
                pending += above
                continue
            if node is not None:
                self.node(node, self._owners.get(id(node)))
            pending.pop()
        if tensor in self.values:
            return self.values[tensor]
        return self.network.cast(tensor, FLOAT) if self.graph.dtype(tensor) in NARROW else tensor

    def _unevaluated(self, tensor: str) -> gs.Node | None:
        """The producer of a tensor if it must be evaluated first."""
        if tensor in self.values or self.graph.is_constant(tensor):
            return None
        node = self.graph.producer(tensor)
        return node if node is not None and self._follows(node) else None

    def _sources(self, node: gs.Node) -> Iterator[str]:
        """The tensors that a node and its subgraphs read from the graph."""
        return map(self.graph.source, filter(None, (*(t.name for t in node.inputs), *captured(node))))

    def _follows(self, node: gs.Node) -> bool:
        """Whether a node must be evaluated: every one, or, alone, pairs and views of evaluated tensors."""
        if not self.alone:
            return True
        while node.op in PASSIVE:
            name = self.graph.source(node.inputs[0].name)
            if name in self.values:
                return True
            if (above := self.graph.producer(name)) is None:
                return False
            node = above
        return False

    def block(self, block: Block) -> None:
        """Evaluates the nodes of a kernel."""
        for node in block.nodes:
            self.node(node, block)

    def node(self, node: gs.Node, block: Block | None) -> None:
        """Evaluates a node, in a kernel or outside."""
        if block is not None and block.quantized and node is block.core:
            try:
                self._store(key(node), product(self.graph, node, self.network, self.value))
                return
            except UnfitError as why:
                self.unfit[label(node)] = str(why)
        proto = onnx.NodeProto()
        proto.CopyFrom(self.graph.proto(node))
        plain = (is_standard(node) or is_pair(node)) and not any(subgraphs(proto))
        if plain:
            widen(proto)
            del proto.input[:]
            proto.input.extend(self._read(node, index, block) for index in range(len(node.inputs)))
        else:
            rename_inputs(proto, {name: self._typed(name) for name in set(reads(proto)) if self._is_outer(name)})
        made = {name: self.network.name(f"engine/{name}") for name in proto.output if name}
        for index, name in enumerate(proto.output):
            proto.output[index] = made.get(name, "")
        proto.ClearField("name")
        self.network.add(proto)
        for name, new in made.items():
            narrow = not plain and self.graph.dtype(name) in NARROW
            self._store(name, self.network.cast(new, FLOAT) if narrow else new)

    def _store(self, name: str, value: str) -> None:
        real = self.graph.dtype(name) in REALS
        kind = HALVES.get(self.stored.get(name, "")) if real else None
        self.values[name] = value if kind is None else self.network.rounded(value, kind)

    def _read(self, node: gs.Node, index: int, block: Block | None) -> str:
        """An input of a node, in the precision in which the kernel reads it from memory."""
        name = node.inputs[index].name
        if not name:
            return ""
        value, kind = self.value(name), self._kind(node, index, block)
        return value if kind is None else self.network.rounded(value, kind)

    def _kind(self, node: gs.Node, index: int, block: Block | None) -> int | None:
        """The 16-bit type to which a kernel's input is rounded; None if it is not."""
        name = node.inputs[index].name
        if block is None or self.graph.dtype(name) not in REALS:
            return None
        if self.graph.is_constant(name):
            return block.half if node is block.core else None
        if any(name == t.name for n in block.nodes for t in n.outputs):
            return None
        where, cast = source(self.graph, name), self.graph.proto(node).input[index]
        if (kind := block.narrowed(where)) is not None or cast == name or "INT8" in block.reads.get(where, ()):
            return kind
        converted = self.graph.dtype(cast)  # the view leaves out the Casts between floating-point types
        return converted if converted in NARROW else None

    def _is_outer(self, name: str) -> bool:
        """Whether a name that a node or its subgraphs read is a tensor of the graph that may vary."""
        known = self.graph.producer(name) is not None or name in self.graph.inputs
        return known and not self.graph.is_constant(name)

    def _typed(self, name: str) -> str:
        """A tensor's value in its own type in the file."""
        value, kind = self.value(name), self.graph.dtype(name)
        return self.network.cast(value, kind) if kind in NARROW else value


def evaluate(graph: Graph, network: Network, stored: Mapping[str, str], blocks: Iterable[Block]) -> Evaluation:
    """The whole graph as the engine computes it."""
    found = Evaluation(graph, network, stored, blocks, alone=False)
    for node in graph.nodes():
        if not graph.is_constant(key(node)):
            found.value(key(node))
    return found

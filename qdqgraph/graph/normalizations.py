"""Normalizations written as several nodes, which TensorRT runs as one float kernel.

A normalization computes a statistic of its input (a mean, a variance, a norm, a maximum, a sum of exponentials) and
recombines it with the input: x - mean, x / sqrt(variance + epsilon), x * (1 / norm), exp(x - maximum) / sum. The
recognition follows that definition and no exporter's sequence of nodes: a statistic reaches the operator that
recombines it through element-wise operators, constants and changes of shape alone. The gate of a squeeze-and-excite
block is none, because its mean passes weighted layers; nor is a mean that nothing recombines, as before a classifier.

Measured on TensorRT-RTX 1.7.1 with LayerNormalization, softmax and GELU between two INT8 MatMuls: one kernel from the
first MatMul's output to the next Q, scale and bias included, with the same bytes wherever pairs are inside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from ..model.protos import is_standard
from ..operators import (
    BEFORE_ROOT,
    BINARY,
    ELEMENTWISE,
    KEEPS_ALL,
    LINEAR,
    ONE_TO_ONE,
    PAIRS,
    REDUCTIONS,
    RESHAPES,
    SAME_CONSTANT,
    SUMS,
    UNARY,
    VIEWS,
)
from .elementwise import activation, pointwise
from .graph import Graph, Reader, input_name, key
from .squares import after, before, sums_of_squares

KEEPS = PAIRS | RESHAPES | SAME_CONSTANT | VIEWS
"""Operators that keep every value and its number of elements."""
CARRIERS = KEEPS | UNARY | BINARY | BEFORE_ROOT | (ONE_TO_ONE & KEEPS_ALL)
"""Operators through which a statistic reaches the operator that recombines it."""
REACH = 32
"""Longest chain of element-wise nodes that is followed from an operand up to the input of a normalization."""


@dataclass(frozen=True, eq=False)
class Statistic:
    """A tensor computed from reductions and constants alone.

    Attributes:
        made: the key of the reduction that computes it; "" if several or none does.
        before: the statistics that it is computed from.
        inverse: it is divided by, so that a product with it divides.
        negative: it is subtracted, so that a sum with it subtracts.
    """

    made: str
    before: tuple[Statistic, ...]
    inverse: bool = False
    negative: bool = False

    @property
    def reductions(self) -> set[str]:
        """Keys of all reductions that it is computed by."""
        found, pending, seen = set[str](), [self], {id(self)}
        while pending:
            statistic = pending.pop()
            found.add(statistic.made)
            left = [each for each in statistic.before if id(each) not in seen]
            seen.update(map(id, left))
            pending += left
        return found - {""}


class Normalizations:
    """The normalizations of a graph, found once.

    Attributes:
        nodes: keys of their nodes, from the first that reads the input to the one that produces the result, with the
            scale and bias that only it feeds; without Q and DQ.
        groups: the same, for each normalization, in file order.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._statistics: dict[str, Statistic] = {}
        self._data: dict[str, str] = {}
        """The operand of each recombining node that is not the statistic, by the node's key."""
        self._centred: dict[str, str] = {}
        """The input of the normalization of each Sub that recombines, by the Sub's key."""
        self._paths: dict[str, dict[str, str]] = {}
        """By input of a normalization: the keys of the nodes on the paths from it, with the node that they lead to."""
        self._of: dict[str, set[str]] = {}
        """The normalization of each node: the keys of its nodes."""
        for node in graph.nodes():
            if is_standard(node) and (start := self._read(node)) is not None:
                self._join({*self._between(start, node), *self._tail(start, node)})
        for square, total, *following in sums_of_squares(graph):
            root = next((i for i, node in enumerate(following) if node.op in ("Sqrt", "Pow")), -1)
            self._join({key(node) for node in (square, total, *following[: root + 1])})
        self.nodes = frozenset(self._of)
        self.groups: tuple[tuple[gs.Node, ...], ...] = tuple(
            tuple(sorted(map(graph.node, group), key=graph.position))
            for group in {id(group): group for group in self._of.values()}.values()
        )

    def _join(self, found: set[str]) -> None:
        """Adds nodes of one normalization; steps that share a node (centring and scaling) are one."""
        nodes = {name for name in found if self._graph.node(name).op not in PAIRS}
        known = {id(group): group for name in nodes if (group := self._of.get(name)) is not None}
        whole = max(known.values(), key=len, default=nodes)
        for part in (nodes, *known.values()):
            if part is not whole:
                whole |= part
                self._of.update(dict.fromkeys(part, whole))
        if whole is nodes:
            self._of.update(dict.fromkeys(nodes, nodes))

    def computes(self, node: gs.Node) -> bool:
        """Whether the node is part of a normalization."""
        return bool(self.nodes) and key(node) in self.nodes

    def inside(self, reader: Reader) -> bool:
        """Whether one node of a normalization produces what this input reads, through pairs or not, and another node of
        the same normalization reads it."""
        if reader.index < 0 or not self.computes(reader.node):
            return False
        maker = self._graph.producer(before(self._graph, reader.node.inputs[reader.index].name))
        return maker is not None and key(maker) in self._of[key(reader.node)]

    def encloses(self, tensor: str) -> bool:
        """Whether nothing outside a normalization reads the tensor, which one of its nodes produces."""
        source = before(self._graph, tensor)
        readers = after(self._graph, source)
        return source not in self._graph.outputs and bool(readers) and all(map(self.inside, readers))

    def _read(self, node: gs.Node) -> str | None:
        """Records what a node computes; the input of the normalization if it recombines a statistic with it."""
        if not self._statistics and node.op not in REDUCTIONS:
            return None
        operands = node.inputs if node.op in BINARY else node.inputs[:1]
        names = [t.name for t in operands if t.name and not self._graph.is_constant(t.name)]
        known = [self._statistics[name] for name in names if name in self._statistics]
        if not names or self._graph.is_constant(key(node)):
            return None
        if node.op in REDUCTIONS:
            self._statistics[key(node)] = Statistic(key(node), tuple(known))
        elif node.op in CARRIERS and len(known) == len(names):
            for tensor in node.outputs:
                self._statistics[tensor.name] = self._passed(node, known)
        elif node.op in BINARY and len(known) == 1 and len(names) == 2 and self._recombines(node, known[0]):
            return self._input(node, known[0])
        return None

    def _passed(self, node: gs.Node, known: list[Statistic]) -> Statistic:
        """The statistic that an element-wise function of statistics and constants computes."""
        second = input_name(node, 1)
        power = self._graph.value(second) if node.op == "Pow" else None
        divides = (
            node.op == "Reciprocal"
            or (node.op == "Div" and second in self._statistics)
            or (power is not None and bool(np.all(power < 0)))
        )
        factor = next((v for t in node.inputs if (v := self._graph.value(t.name)) is not None), None)
        negates = (
            node.op == "Neg"
            or (node.op == "Sub" and second in self._statistics)
            or (node.op == "Mul" and factor is not None and factor.dtype.kind == "f" and bool(np.all(factor < 0)))
        )
        alone = known[0] if len(known) == 1 else Statistic("", tuple(known))
        return Statistic(
            alone.made,
            alone.before,
            divides or any(s.inverse for s in known),
            negates or any(s.negative for s in known),
        )

    def _recombines(self, node: gs.Node, statistic: Statistic) -> bool:
        """Whether an operator of a statistic and other data centres or scales the data."""
        if node.op == "Div":
            return node.inputs[1].name in self._statistics
        if node.op == "Mul":
            return statistic.inverse
        return node.op == "Sub" or (node.op == "Add" and statistic.negative)

    def _input(self, node: gs.Node, statistic: Statistic) -> str | None:
        """The tensor of which both the statistic and the other operand are functions, with the centring and the
        exponential upstream of it; None if there is none."""
        data = next(t.name for t in node.inputs if t.name not in self._statistics)
        reduced = {
            name for made in statistic.reductions for name in self._upstream(self._graph.node(made).inputs[0].name)
        }
        start = next((name for name in self._upstream(data) if name in reduced), None)
        if start is None:
            return None
        self._data[key(node)] = data
        start = self._extended(start)
        if node.op == "Sub":
            self._centred[key(node)] = start
        return start

    def _upstream(self, tensor: str) -> Iterator[str]:
        """The tensor and those of which it is an element-wise function, the nearest first."""
        for _ in range(REACH):
            yield tensor
            node = self._graph.producer(tensor)
            source = None if node is None or not is_standard(node) else self._source(node)
            if source is None:
                return
            tensor = source

    def _source(self, node: gs.Node) -> str | None:
        """The data of which a node's result is an element-wise function."""
        if node.op in KEEPS:
            return str(node.inputs[0].name)
        if key(node) in self._data:
            return self._data[key(node)]
        names = [t.name for t in node.inputs if t.name]
        if node.op in BINARY and len(names) == 2 and before(self._graph, names[0]) == before(self._graph, names[1]):
            return str(names[0])
        return activation(self._graph, node)

    def _extended(self, start: str) -> str:
        """`start`, or the tensor from which a centring or an exponential directly upstream computes it."""
        here = start
        for _ in range(REACH):
            node = self._graph.producer(here)
            if node is None or not is_standard(node):
                break
            if node.op == "Exp":
                start = here = node.inputs[0].name
            elif key(node) in self._centred:
                start = here = self._centred[key(node)]
            elif node.op in KEEPS or (node.op in LINEAR and pointwise(self._graph, node)):
                here = str(self._source(node))
            elif (masked := self._masked(node)) is not None:
                here = masked
            else:
                break
        return start

    def _masked(self, node: gs.Node) -> str | None:
        """The exponential that a product or a Where masks, before the sum."""
        if node.op not in ("Mul", "Where"):
            return None
        makers = {t.name: self._graph.producer(before(self._graph, t.name)) for t in node.inputs if t.name}
        exponentials = [name for name, maker in makers.items() if maker is not None and maker.op == "Exp"]
        return exponentials[0] if len(exponentials) == 1 else None

    def _between(self, start: str, end: gs.Node) -> set[str]:
        """Keys of the nodes on the paths from a tensor to a node, with the node itself; of the paths to an earlier node
        from the same tensor, which are one normalization already, that node alone."""
        graph = self._graph
        least, known = graph.depth.get(start, 0), self._paths.setdefault(start, {})
        pending, walked, met = [end], {key(end): end}, dict[str, str]()
        while pending:
            for tensor in pending.pop().inputs:
                maker = graph.producer(tensor.name) if tensor.name and tensor.name != start else None
                if maker is None or key(maker) in walked or graph.depth.get(tensor.name, 0) < least:
                    continue
                if key(maker) in known:
                    met[key(maker)] = known[key(maker)]
                elif is_standard(maker) and maker.op in CARRIERS | ELEMENTWISE | REDUCTIONS:
                    walked[key(maker)] = maker
                    pending.append(maker)
        reached = {start}.union(*((t.name for t in graph.node(name).outputs) for name in met))
        for node in sorted(walked.values(), key=graph.position):
            if any(t.name in reached for t in node.inputs):
                reached.update(t.name for t in node.outputs)
        found = {name for name in walked if name in reached}
        known.update(dict.fromkeys(found, key(end)))
        return found.union(met.values())

    def _tail(self, start: str, end: gs.Node) -> list[str]:
        """Keys of the scale and the bias after a normalization: at most two operators with constants, each the only
        reader, and the sum with the normalization's own input, that TensorRT computes in the same kernel.

        The last one is in global response normalization: https://arxiv.org/abs/2301.00808, algorithm 1.
        """
        found: list[str] = []
        passed: list[str] = []
        tensor, left, skips = key(end), 2, 1
        while (left or skips) and tensor not in self._graph.outputs:
            readers = self._graph.readers(tensor)
            nodes = {id(r.node): r.node for r in readers if r.index >= 0}
            if len(nodes) != 1 or len(readers) != len(nodes):
                break
            (node,) = nodes.values()
            if left and node.op in LINEAR and pointwise(self._graph, node):
                found += [*passed, key(node)]
                passed, left = [], left - 1
            elif skips and node.op in SUMS and self._reads(node, start):
                found += [*passed, key(node)]
                passed, skips = [], 0
            elif node.op in KEEPS and is_standard(node) and readers[0].index == 0:
                passed.append(key(node))
            else:
                break
            tensor = key(node)
        return found

    def _reads(self, node: gs.Node, tensor: str) -> bool:
        """Whether a node reads a tensor, through pairs or not."""
        source = before(self._graph, tensor)
        return any(before(self._graph, t.name) == source for t in node.inputs if t.name)


def normalizations(graph: Graph) -> Normalizations:
    """The graph's normalizations, found once."""
    return graph.once(Normalizations)

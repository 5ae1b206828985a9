"""Which nodes of a graph become one kernel, regardless of types: blocks, pools, element-wise chains."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from ...graph.graph import Graph, key
from ...graph.moves import move_of
from ...graph.normalizations import normalizations
from ...graph.pair import pairs
from ...model.protos import is_standard
from ...operators import (
    BINARY,
    CONVOLUTIONS,
    ELEMENTWISE,
    EPILOGUES,
    GATES,
    KERNELS,
    PAIRS,
    SHAPES,
    SUMS,
    UNARY,
    VIEWS,
    WEIGHTED,
    members,
)
from .epilogues import data_of, float_epilogue, function_of
from .generated import groups, in_order
from .patterns import grouped, is_linear, is_tanh_gelu, padding
from .propagation import values
from .rows import rows

NORMALIZATION = "Normalization"
"""What engines call the kernel of a normalization that is written as several nodes."""
POINTWISE = "PointWise"
"""What engines call the kernel of element-wise nodes."""
GENERATED = "kgen"
"""What engines call a kernel that is generated for nodes of several kinds."""
VIEW = "View"
"""A view in the order of execution: no kernel, the same memory with another shape."""
QUIET = PAIRS | VIEWS | {"Constant"}
"""Operators that are not a separate kernel."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """Nodes that run as one kernel.

    Attributes:
        kind: what engines call it.
        nodes: in file order.
        core: the weighted node; None for any other kernel.
        add: the residual Add that fuses with it.
        rules: the rules that join the nodes.
        pad: the Pad upstream that fuses with it.
        generated: it is generated for its nodes, so that Q and DQ run inside it.
        alternative: the kernels that TensorRT may form instead of it and its neighbors, each as its nodes.
    """

    kind: str
    nodes: tuple[gs.Node, ...]
    core: gs.Node | None = None
    add: gs.Node | None = None
    rules: tuple[str, ...] = ()
    pad: gs.Node | None = None
    generated: bool = False
    alternative: tuple[tuple[gs.Node, ...], ...] = ()

    @property
    def end(self) -> str:
        """Its output tensor; of several (Split, TopK) the first."""
        return key(self.nodes[-1])


class Partition:
    """The nodes of a graph, divided into kernels; without views and shape arithmetic.

    Args:
        together: where TensorRT decides by timing whether nodes fuse, they do; otherwise they do not (T1).
    """

    def __init__(self, graph: Graph, *, together: bool = False) -> None:
        self.graph, self.table, self.together = graph, pairs(graph), together
        self.ends = {self.table.root(name) for name in graph.outputs}
        self.shapes = graph.once(shape_arithmetic)
        self.taken: set[int] = set()
        self._origins: dict[str, gs.Node | None] = {}
        found = [self._block(node) for node in self._cores()]
        generates = graph.target.joined != "elementwise"
        found += () if generates else self._normalizations()
        rest = [n for n in graph.nodes() if id(n) not in self.taken and self.computes(n)]
        joined = members(graph.target.joined)
        alone = [n for n in rest if not (n.op in joined and is_standard(n))]
        found += [Kernel(KERNELS.get(n.op, "Move" if move_of(graph, n) else n.op), (n,)) for n in alone]
        apart = {id(n) for n in alone}
        mine = [n for n in rest if id(n) not in apart]
        found += self._generated(found, mine) if generates else self._pointwise(mine)
        views = [n for n in graph.nodes() if self._is_view(n)]
        self.kernels = self._ordered([*found, *(Kernel(VIEW, (n,)) for n in views)])

    def computes(self, node: gs.Node) -> bool:
        """Whether the node computes or moves data: not a Q or DQ, view, constant or arithmetic on shapes."""
        return node.op not in QUIET and id(node) not in self.shapes and not self.graph.is_constant(key(node))

    def _is_view(self, node: gs.Node) -> bool:
        return (
            node.op in VIEWS
            and id(node) not in self.taken
            and id(node) not in self.shapes
            and not self.graph.is_constant(key(node))
        )

    def _readers(self, kernels: Sequence[Kernel], through: frozenset[str]) -> dict[int, list[int]]:
        """Kernel → the kernels that read a result of it, both as indices, seen through these operators."""
        owner = {id(n): i for i, kernel in enumerate(kernels) for n in kernel.nodes}
        found: dict[int, list[int]] = {}
        seen: dict[str, gs.Node | None] = {}
        inputs = [(owner[id(n)], name) for kernel in kernels for n in kernel.nodes for name in self.data(n)]
        inputs += [(owner[id(r.node)], name) for name, r in self.graph.captures if id(r.node) in owner]
        for index, name in inputs:
            origin = self.origin(name)
            if origin is not None and owner.get(id(origin)) == index:
                continue  # also a view between two nodes of a kernel
            source = self._maker(name, through, seen, owner)
            if source is not None and (before := owner.get(id(source))) is not None:
                found.setdefault(before, []).append(index)
        return found

    def origin(self, tensor: str) -> gs.Node | None:
        """The node that computes a tensor, seen through pairs and views."""
        return self._maker(tensor, QUIET, self._origins)

    def _maker(
        self, tensor: str, through: frozenset[str], known: dict[str, gs.Node | None], ends: Container[int] = ()
    ) -> gs.Node | None:
        """The node that produces a tensor, seen through these operators up to nodes with an id in `ends`.

        Args:
            known: the results so far, by tensor.
        """
        if tensor in known:
            return known[tensor]
        passed: list[str] = []
        while tensor not in known:
            node = self.graph.producer(tensor)
            passed.append(tensor)
            if node is None or id(node) in ends or node.op not in through or not node.inputs:
                known[tensor] = node
                break
            tensor = node.inputs[0].name
        found = known[tensor]
        for name in passed:
            known[name] = found
        return found

    def _ordered(self, kernels: Sequence[Kernel]) -> tuple[Kernel, ...]:
        """In the order of execution: each after what it reads, else in file order."""
        listed = sorted(kernels, key=lambda k: self.graph.position(k.nodes[-1]))
        return tuple(listed[i] for i in in_order(len(listed), self._readers(listed, PAIRS)))

    def elementwise(self, node: gs.Node) -> bool:
        """Whether the node is element-wise."""
        return node.op in ELEMENTWISE

    def only(self, tensor: str) -> gs.Node | None:
        """The only reader of the tensor, unquantized; None if there are others, or it is a network output."""
        uses = values(self.graph, tensor)
        alone = len(uses) == 1 and uses[0].pair is None and uses[0].reader.index >= 0 and tensor not in self.ends
        return uses[0].reader.node if alone else None

    def data(self, node: gs.Node) -> list[str]:
        """The inputs of a node that are not constant."""
        return data_of(self.graph, node)

    def _cores(self) -> Iterator[gs.Node]:
        """Weighted nodes, last first, because of two convolutions upstream of an Add the last one fuses with it."""
        yield from (n for n in reversed(self.graph.nodes(*WEIGHTED)) if self.computes(n))

    def _block(self, core: gs.Node) -> Kernel:
        """The kernel around a weighted node."""
        nodes, rules = [core], ["R11"]
        pad = padding(self.graph, core)
        rules += ["F8"] if pad is not None else []
        nodes += self._linear(core, rules)
        if self.graph.target.float_epilogues and core.op == "Conv" and self.table.made(core.inputs[0].name) is None:
            return self._float_block(core, nodes, rules, pad)
        before = len(nodes)
        nodes += self._activation(key(nodes[-1]), core, rules)
        gated = len(nodes) > before and nodes[-1].op in BINARY | GATES
        add, acts, behind = self._residual(key(nodes[-1]), core), False, list[gs.Node]()
        if add is not None:
            acts = len(nodes) > 1 and nodes[-1].op not in BINARY - {"Mul"} and self._acts(nodes)
            rules.append("R13" if acts else "R12")
            behind = [add, *self._activation(key(add), core, rules)]
        alternative: tuple[tuple[gs.Node, ...], ...] = ()
        if gated and (acts or self._gate_is_open(core)):
            apart, rest = nodes[:before], [*nodes[before:], *behind]
            alternative = (tuple(apart), tuple(rest)) if self.together else ((*apart, *rest),)
            if not self.together:
                nodes, behind, add, rules = apart, [], None, [r for r in rules if r not in ("R13", "R20", "R21")]
        elif add is not None and (other := self._bare(add, key(nodes[-1]))):
            alternative = ((*other, *behind), tuple(nodes))
        rules += ["T1"] if alternative else []
        nodes += behind
        nodes = [*([pad] if pad is not None else []), *nodes]
        self.taken.update(map(id, nodes))
        unique = tuple(dict.fromkeys(rules))
        return Kernel(KERNELS[core.op], tuple(nodes), core, add, unique, pad, alternative=alternative)

    def _float_block(self, core: gs.Node, nodes: list[gs.Node], rules: list[str], pad: gs.Node | None) -> Kernel:
        """The kernel around a floating-point convolution with what folds into it, where it is generated (F13)."""
        following = float_epilogue(self.graph, key(nodes[-1]), self.ends, self.taken)
        rules += ["F13"] if following else []
        add = None if following else self._residual(key(nodes[-1]), core)
        rules += ["R12"] if add is not None else []
        nodes += following or ([add] if add is not None else [])
        last = self.only(key(nodes[-1]))
        if not following and last is not None and last.op == "Relu" and id(last) not in self.taken:
            nodes, rules = [*nodes, last], [*rules, "R21"]
        nodes = [*([pad] if pad is not None else []), *nodes]
        self.taken.update(map(id, nodes))
        return Kernel(KERNELS[core.op], tuple(nodes), core, add, tuple(dict.fromkeys(rules)), pad)

    def _gate_is_open(self, core: gs.Node) -> bool:
        """Whether TensorRT decides by timing if x * f(x) fuses with this weighted node: a quantized one, by target."""
        return self.graph.target.gates_by_timing and self.table.made(core.inputs[0].name) is not None

    def _bare(self, add: gs.Node, tensor: str) -> list[gs.Node]:
        """The convolution whose result is the other operand of an Add, unquantized, with the nodes between."""
        found: list[gs.Node] = []
        for name in (n for n in self.data(add) if n != tensor):
            node = self.graph.producer(name)
            while node is not None and self.only(key(node)) is (found[0] if found else add):
                found.insert(0, node)
                if node.op in CONVOLUTIONS:
                    return found
                linear = node.op == "BatchNormalization" or is_linear(self.graph, node)
                node = self.graph.producer(self.data(node)[0]) if linear else None
        return []

    def _normalizations(self) -> Iterator[Kernel]:
        """Normalizations written as several nodes, whose result alone leaves them (F3)."""
        inner = normalizations(self.graph)
        for nodes in inner.groups:
            free = not any(id(n) in self.taken for n in nodes)
            made = [t.name for n in nodes[:-1] for t in n.outputs if t.name]
            if free and len(nodes) > 1 and all(map(inner.encloses, made)):
                self.taken.update(map(id, nodes))
                yield Kernel(NORMALIZATION, nodes, rules=("F3",))

    def _acts(self, nodes: Iterable[gs.Node]) -> bool:
        return any(n.op in UNARY for n in nodes)

    def _linear(self, core: gs.Node, rules: list[str]) -> Iterator[gs.Node]:
        """BatchNormalization, bias and constant factors downstream of the core."""
        last = core
        while (node := self.only(key(last))) is not None and id(node) not in self.taken:
            if node.op == "BatchNormalization":
                if core.op == "ConvTranspose" and self.table.made(core.inputs[0].name):
                    rules.append("R22")
                    return
            elif not is_linear(self.graph, node):
                return
            yield node
            last = node

    def _activation(self, tensor: str, core: gs.Node, rules: list[str]) -> list[gs.Node]:
        """The nodes of the activation that reads a tensor and fuses; empty if there is none."""
        node = self.only(tensor)
        gate = function_of(self.graph, tensor, self.ends) or ([node] if node is not None and node.op in GATES else [])
        tanh = is_tanh_gelu(gate or ([node] if node is not None else [])) and self.table.made(core.inputs[0].name)
        if tanh and not self.together:
            rules.append("F11")
            return []
        if gate and not grouped(core) and not any(id(n) in self.taken for n in gate):
            rules.append("R20")
            tail = self.only(key(gate[-1])) if len(gate) > 1 else None
            if tail is not None and tail.op in ("Mul", "Div") and is_linear(self.graph, tail):
                gate.append(tail)  # GELU and HardSwish end with a constant factor
            return gate
        if node is not None and node.op in EPILOGUES and id(node) not in self.taken and len(self.data(node)) == 1:
            rules.append("R21")
            return [node]
        if gate:
            rules.append("R20")
        return []

    def _residual(self, tensor: str, core: gs.Node) -> gs.Node | None:
        """The residual Add that reads a tensor and fuses with its producer.

        It has two operands of one shape, and no other block contains it.
        """
        add = self.only(tensor)
        if add is None or add.op not in SUMS or id(add) in self.taken or len(add.inputs) != 2:
            return None
        names = self.data(add)
        first, second = (self.graph.shape(t.name) for t in add.inputs)
        alike = first is None or second is None or first[1:] == second[1:]
        return add if len(set(names)) == 2 and alike and core.op in CONVOLUTIONS else None

    def _pointwise(self, nodes: Iterable[gs.Node]) -> Iterator[Kernel]:
        """Element-wise nodes in a row, as one kernel each."""
        for row in rows(self.graph, nodes, self.data, self.ends):
            yield Kernel(POINTWISE, tuple(row), rules=("F1",) if len(row) > 1 else ())

    def _generated(self, others: Iterable[Kernel], nodes: Iterable[gs.Node]) -> Iterator[Kernel]:
        """The kernels that are generated for these nodes, beside the other kernels of the graph (F6)."""
        alone = [Kernel(KERNELS.get(n.op, "Move" if move_of(self.graph, n) else n.op), (n,)) for n in nodes]
        mine = set(map(id, alone))
        items = sorted([*others, *alone], key=lambda k: self.graph.position(k.nodes[-1]))
        readers = self._readers(items, QUIET)
        order = in_order(len(items), readers)
        if len(order) == len(items) and order != [*range(len(items))]:  # nodes of a file may be in another one
            items = [items[i] for i in order]
            readers = self._readers(items, QUIET)
        joined = frozenset(i for i, kernel in enumerate(items) if id(kernel) in mine)
        for group in groups(len(items), readers, joined):
            if group[0] in joined:
                found = tuple(items[i].nodes[0] for i in group)
                plain = all(map(self.elementwise, found))
                kind = POINTWISE if plain else items[group[0]].kind if len(found) == 1 else GENERATED
                yield Kernel(kind, found, rules=("F6",) if len(found) > 1 else (), generated=True)


def shape_arithmetic(graph: Graph) -> frozenset[int]:
    """Ids of nodes that compute shapes: all their inputs come from Shape, Size or constants."""
    found: set[int] = set()
    makers: set[str] = set()
    for node in graph.nodes():
        if not makers and node.op not in SHAPES:
            continue
        names = [t.name for t in node.inputs if t.name and not graph.is_constant(t.name)]
        if node.op in SHAPES or (names and all(n in makers for n in names)):
            found.add(id(node))
            makers.update(t.name for t in node.outputs)
    return frozenset(found)

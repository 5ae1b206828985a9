"""Matches the layers of two engines that compute the same, by their ONNX nodes and never by name or kind only.

Old exporters number all nodes of a file ("Conv_47"), Q and DQ included, so a convolution has different numbers in two
exports. Weights and scopes identify it reliably. If they show that the numbers disagree, a number is replaced by its
rank among the nodes of that operator, which is equal in both files if the networks are equal. Scopes that a framework
adds are seen through (`aliases`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...graph.components import components
from ..layers import Engine, Layer
from .aliases import aliases
from .reformats import Reformats, paired

NUMBERED = re.compile(r"^([A-Za-z][A-Za-z0-9]*)_(\d+)$")
"""A node name that consists of the operator and a number, without a scope."""
Nodes = Sequence[str]
"""The nodes of a kernel."""


@dataclass(frozen=True)
class KernelGroup:
    """Layers of two engines that share ONNX nodes: a smallest set that shares none with the other groups.

    Attributes:
        a: layers of the first engine.
        b: layers of the second engine.
    """

    a: tuple[Layer, ...]
    b: tuple[Layer, ...]

    @property
    def one(self) -> bool:
        """Whether each engine has one layer in the group: the same kernel."""
        return len(self.a) == len(self.b) == 1


@dataclass(frozen=True)
class Matching:
    """The corresponding layers of two engines.

    Attributes:
        groups: computing layers that share nodes.
        only_a: computing layers in a without a counterpart.
        only_b: computing layers in b without a counterpart.
        reformats: the reformats of both.
    """

    groups: tuple[KernelGroup, ...]
    only_a: tuple[Layer, ...]
    only_b: tuple[Layer, ...]
    reformats: Reformats


def match(a: Engine, b: Engine) -> Matching:
    """Returns the layers of two engines that compute the same."""
    left, right = _computing(a), _computing(b)
    names, numbers_agree = _renamed([layer.nodes for layer in left], [layer.nodes for layer in right])
    ours = [frozenset(names[n] for n in layer.nodes if n in names) for layer in left]
    theirs = [frozenset(layer.nodes) for layer in right]
    common = frozenset().union(*ours) & frozenset().union(*theirs) if ours and theirs else frozenset()
    groups, rest_a, rest_b = _joined(left, right, [s & common for s in ours], [s & common for s in theirs])
    near, rest_a, rest_b = _neighbours(a, b, groups, rest_a, rest_b)
    every = (*groups, *near)
    member = {id(layer): i for i, g in enumerate(every) for layer in (*g.a, *g.b)}
    return Matching(every, tuple(rest_a), tuple(rest_b), paired(a, b, member, numbers_agree))


def _computing(engine: Engine) -> list[Layer]:
    return [layer for layer in engine.working if not layer.cause]


def _renamed(a: Sequence[Nodes], b: Sequence[Nodes]) -> tuple[Mapping[str, str], bool]:
    """Returns the names of a's nodes in b, and whether equal numbers denote the same node in both."""
    scoped = aliases(*({n for nodes in side for n in nodes if not NUMBERED.match(n)} for side in (a, b)))
    a = [tuple(scoped.get(n, n) for n in nodes) for nodes in a]
    ours, theirs = _by_operator(a), _by_operator(b)
    agree, disagree = _evidence(a, b)
    numbers_agree = not disagree or agree > 9 * disagree
    known = bool(agree or disagree)
    names = {n: n for nodes in a for n in nodes if not NUMBERED.match(n)} | scoped
    for operator, mine in ours.items():
        other = theirs.get(operator, [])
        if (known and numbers_agree) or set(mine) <= set(other) or set(other) <= set(mine):
            names.update((n, n) for n in mine)
        elif len(mine) == len(other):
            names.update(zip(mine, other, strict=True))
        if not known and not (set(mine) <= set(other) or set(other) <= set(mine)):
            numbers_agree = False
    return names, numbers_agree


def _by_operator(kernels: Sequence[Nodes]) -> dict[str, list[str]]:
    """Returns the numbered nodes in the order of their numbers, by operator."""
    found: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for nodes in kernels:
        for node in nodes:
            if numbered := NUMBERED.match(node):
                found[numbered[1]].add((int(numbered[2][:18]), node))
    return {operator: [node for _, node in sorted(nodes)] for operator, nodes in found.items()}


def _evidence(a: Sequence[Nodes], b: Sequence[Nodes]) -> tuple[int, int]:
    """Counts how often layers with a common weight give a node of one operator equal numbers, and different numbers."""
    where = {n: nodes for nodes in b for n in nodes if not NUMBERED.match(n)}
    agree = disagree = 0
    for nodes in a:
        other = next((where[n] for n in nodes if n in where), None)
        mine, theirs = _by_operator([nodes]), _by_operator([other] if other else [])
        for operator in mine.keys() & theirs.keys():
            if len(mine[operator]) == len(theirs[operator]) == 1:
                agree += mine[operator] == theirs[operator]
                disagree += mine[operator] != theirs[operator]
    return agree, disagree


def _joined(
    a: Sequence[Layer], b: Sequence[Layer], ours: Sequence[frozenset[str]], theirs: Sequence[frozenset[str]]
) -> tuple[list[KernelGroup], list[Layer], list[Layer]]:
    """Returns the groups of layers that share nodes, and the remaining layers of each engine."""
    nodes, half = (*ours, *theirs), len(ours)
    groups: list[KernelGroup] = []
    rest: tuple[list[Layer], list[Layer]] = ([], [])
    for members in components(nodes):
        sides = tuple(a[i] for i in members if i < half), tuple(b[i - half] for i in members if i >= half)
        if nodes[members[0]]:
            groups.append(KernelGroup(*sides))
        else:  # a layer without nodes is a component of its own
            rest[0].extend(sides[0])
            rest[1].extend(sides[1])
    return groups, *rest


def _neighbours(
    a: Engine, b: Engine, groups: Sequence[KernelGroup], rest_a: list[Layer], rest_b: list[Layer]
) -> tuple[list[KernelGroup], list[Layer], list[Layer]]:
    """Pairs remaining layers of one kind between the same groups, if the pair is unique; returns pairs and the rest."""
    signs = []
    for engine, side in ((a, 0), (b, 1)):
        member = {id(layer): i for i, g in enumerate(groups) for layer in (g.a, g.b)[side]}
        before: dict[int, set[int]] = defaultdict(set)
        after: dict[int, set[int]] = defaultdict(set)
        for source, reader, _ in engine.edges:
            ends = engine.layers[source], engine.layers[reader]
            if id(ends[0]) in member:
                before[id(ends[1])].add(member[id(ends[0])])
            if id(ends[1]) in member:
                after[id(ends[0])].add(member[id(ends[1])])
        table: dict[object, list[Layer]] = defaultdict(list)
        for layer in (rest_a, rest_b)[side]:
            if before[id(layer)] or after[id(layer)]:
                table[layer.kind, frozenset(before[id(layer)]), frozenset(after[id(layer)])].append(layer)
        signs.append(table)
    pairs = [(x[0], signs[1][s][0]) for s, x in signs[0].items() if len(x) == len(signs[1].get(s, ())) == 1]
    taken = {id(layer) for pair in pairs for layer in pair}
    near = [KernelGroup((x,), (y,)) for x, y in pairs]
    return near, [x for x in rest_a if id(x) not in taken], [x for x in rest_b if id(x) not in taken]

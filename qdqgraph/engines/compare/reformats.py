"""Matches the reformats of two engines by the kernels that they join, never by node numbers only.

A reformat is between the kernels that write its input and those that read its output, whatever other reformats are
between. In both engines these kernels have the same nodes, so the names of the reformat and of its tensors do not
matter. They are used for what is left, such as in an export without tensors.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..layers import Engine, Layer

Mark = int | str
"""The group of a kernel, or "in", "out" for the network's ends, or "?" for a kernel without a counterpart."""
NUMBERED = re.compile(r"^[A-Za-z][A-Za-z0-9]*_\d+$|(?:^|[._:/])\d+$|::")
"""Names of nodes and tensors that exporters number."""


@dataclass(frozen=True)
class Place:
    """A reformat, and what it joins.

    Attributes:
        layer: the reformat.
        above: the kernels that write what it converts.
        below: the kernels that read the result.
    """

    layer: Layer
    above: frozenset[Mark]
    below: frozenset[Mark]

    @property
    def known(self) -> bool:
        """Whether a kernel with a counterpart is at one of its ends."""
        return any(isinstance(mark, int) for mark in self.above | self.below)


@dataclass(frozen=True)
class Reformats:
    """The reformats of two engines.

    Attributes:
        both: those in both engines, from a and b.
        only_a: those in a only.
        only_b: those in b only.
    """

    both: tuple[tuple[Layer, Layer], ...]
    only_a: tuple[Layer, ...]
    only_b: tuple[Layer, ...]


def paired(a: Engine, b: Engine, group: Mapping[int, int], numbers_agree: bool) -> Reformats:
    """Returns the reformats of two engines that join the same kernels.

    Args:
        a: the first engine.
        b: the second engine.
        group: the group of each matched kernel of both engines, by the id of the layer.
        numbers_agree: whether equal numbers in names of nodes denote the same node in both.
    """
    left, right = _places(a, group), _places(b, group)
    ends = set(a.bindings) & set(b.bindings)
    found: list[tuple[Layer, Layer]] = []
    rules: list[Callable[[Place, Place], bool]] = [
        lambda x, y: x.known and (x.above, x.below, x.layer.cause) == (y.above, y.below, y.layer.cause),
        lambda x, y: x.known and (x.above, x.below) == (y.above, y.below),
        lambda x, y: x.known and y.known and bool(x.above & y.above and x.below & y.below),
    ]
    for same in rules:
        left, right = _taken(left, right, same, found)
    names = {id(place): _names(place, numbers_agree, ends) for place in (*left, *right)}
    left, right = _taken(left, right, lambda x, y: bool(names[id(x)] & names[id(y)]), found)
    return Reformats(tuple(found), tuple(x.layer for x in left), tuple(y.layer for y in right))


def _taken(
    left: Sequence[Place],
    right: Sequence[Place],
    same: Callable[[Place, Place], bool],
    found: list[tuple[Layer, Layer]],
) -> tuple[list[Place], list[Place]]:
    """Adds the pairs of a rule, in execution order; returns what is left."""
    free = list(right)
    rest = []
    for place in left:
        other = next((y for y in free if same(place, y)), None)
        if other is None:
            rest.append(place)
        else:
            free.remove(other)
            found.append((place.layer, other.layer))
    return rest, free


def _places(engine: Engine, group: Mapping[int, int]) -> list[Place]:
    above: dict[int, list[int]] = defaultdict(list)
    below: dict[int, list[int]] = defaultdict(list)
    for source, reader, _ in engine.edges:
        above[reader].append(source)
        below[source].append(reader)

    def reached(start: int, step: Mapping[int, list[int]], end: str) -> frozenset[Mark]:
        """The marks of the next kernels in a direction."""
        marks: set[Mark] = set()
        stack, seen = [start], {start}
        while stack:
            near = step.get(stack.pop(), [])
            if not near:
                marks.add(end)
            for index in near:
                layer = engine.layers[index]
                if not layer.cause:
                    marks.add(group.get(id(layer), "?"))
                elif index not in seen:
                    seen.add(index)
                    stack.append(index)
        return frozenset(marks)

    found = []
    for index, layer in enumerate(engine.layers):
        if layer.cause:
            known = bool(layer.inputs and layer.outputs)
            above_it, below_it = (
                reached(index, step, end) if known else frozenset() for step, end in ((above, "in"), (below, "out"))
            )
            found.append(Place(layer, above_it, below_it))
    return found


def _names(place: Place, numbers_agree: bool, ends: set[str]) -> set[tuple[str, str]]:
    """The names of tensors, Qs and DQs that denote the same in both engines."""
    layer = place.layer
    sides = (("from", layer.inputs), ("to", layer.outputs))
    named = {(side, t.name) for side, tensors in sides for t in tensors if not t.name.startswith("Reformatted ")}
    named |= {("by", q) for q in layer.quantizers}
    named |= {("is", layer.name)} if not layer.inputs else set()
    return {m for m in named if numbers_agree or m[1] in ends or not NUMBERED.search(m[1])}

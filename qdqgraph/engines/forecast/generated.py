"""Which nodes run in one kernel that TensorRT's compiler generates for them (F6).

TensorRT 10 and newer generate the kernels of operators that no library has a kernel for: element-wise operators,
reductions, normalizations, data movement, and Q and DQ. Neighbors share one kernel unless a library kernel lies on a
path between them. Measured on TensorRT-RTX 1.7.1, one construct at a time: docs/tensorrt.md.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping


def in_order(count: int, readers: Mapping[int, Iterable[int]]) -> list[int]:
    """The items in an order in which each comes after what it reads; the smallest number first where several could."""
    waits = [0] * count
    for after in readers.values():
        for reader in set(after):
            waits[reader] += 1
    ready = [item for item in range(count) if not waits[item]]
    found: list[int] = []
    while ready:
        item = heapq.heappop(ready)
        found.append(item)
        for reader in set(readers.get(item, ())):
            waits[reader] -= 1
            if not waits[reader]:
                heapq.heappush(ready, reader)
    return found


def groups(count: int, readers: Mapping[int, Iterable[int]], joined: frozenset[int]) -> list[list[int]]:
    """Divides items into groups that share a kernel; an item that is not joined is a group of its own.

    Args:
        count: number of items, numbered in execution order: an item reads earlier items only.
        readers: item → the items that read a result of it.
        joined: items that share a kernel with joined neighbors.

    Returns:
        The groups, each in execution order. No path leads from a group through another one back into it.
    """
    return _Groups(count, readers, joined).found


class _Groups:
    """One backward pass: every item joins the groups that read it, unless a path through another reader leads there.

    Sets of joined items are integers with one bit for each item.
    """

    def __init__(self, count: int, readers: Mapping[int, Iterable[int]], joined: frozenset[int]) -> None:
        self.bit = {item: 1 << number for number, item in enumerate(sorted(joined, reverse=True))}
        self.group = list(range(count))
        self.members: dict[int, list[int]] = {}
        self.bits: dict[int, int] = {}
        self.below: dict[int, int] = {}
        for item in reversed(range(count)):
            after = {self.group[r] for r in readers.get(item, ()) if r > item}
            self._place(item, after, item in joined)
        self.found = sorted(map(sorted, self.members.values()), reverse=True)  # the first items differ

    def _place(self, item: int, after: Collection[int], joins: bool) -> None:
        """Adds an item with the groups that read it."""
        reached = 0
        for group in after:
            reached |= self.below[group]
        with_it = {g for g in after if joins and self.bits[g] and not reached & self.bits[g]}
        for group in after:
            if group not in with_it:
                reached |= self.bits[group]
        own = max(with_it, key=lambda g: len(self.members[g]), default=item)
        changed = len(with_it) > 1 or (bool(with_it) and self.below[own] != reached)
        bits = self.bit.get(item, 0)
        for group in with_it:
            bits |= self.bits[group]
        self.group[item] = own
        self.members.setdefault(own, []).append(item)
        for group in with_it - {own}:
            self._merge(group, own)
        self.bits[own], self.below[own] = bits, reached
        if changed:
            self._propagate(own)

    def _merge(self, group: int, into: int) -> None:
        members = self.members.pop(group)
        for member in members:
            self.group[member] = into
        self.members[into] += members
        del self.bits[group], self.below[group]

    def _propagate(self, changed: int) -> None:
        """What reaches the group also reaches everything below it."""
        bits, below = self.bits[changed], self.below[changed]
        for group, reached in self.below.items():
            if reached & bits and group != changed:
                self.below[group] = reached | bits | below

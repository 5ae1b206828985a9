"""Connected components of sets that share members.

A dozen lines of code, because importing networkx takes 90 ms and scipy 250 ms of CPU time, as much as comparing two
engines.
The solver has its own union-find: its groups store what the next tie needs in constant time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence


def components(sets: Sequence[Collection[Hashable]]) -> list[list[int]]:
    """The indexes of the sets that share members, directly or through others.

    Returns:
        One ascending list per component, in the order of their first sets. An empty set is a separate component.
    """
    owners: dict[Hashable, list[int]] = defaultdict(list)
    for index, members in enumerate(sets):
        for member in members:
            owners[member].append(index)
    found: list[list[int]] = []
    seen: set[int] = set()
    for first in range(len(sets)):
        if first in seen:
            continue
        seen.add(first)
        mine = [first]
        for index in mine:  # grows
            reached = {other for member in sets[index] for other in owners.pop(member, ())} - seen
            seen |= reached
            mine += reached
        found.append(sorted(mine))
    return found

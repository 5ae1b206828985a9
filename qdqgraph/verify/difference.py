"""How the quantization of two models differs: pairs, scales, and who reads through which."""

from __future__ import annotations

from collections.abc import Iterator

from ..graph.graph import Graph
from ..graph.pair import pairs
from ..graph.sites import sites

Reading = dict[tuple[str, int], float | None]
"""For each final reader of a site the scale it is rounded with; None where it reads raw."""


def differences(a: Graph, b: Graph) -> Iterator[str]:
    """One line for every site whose scales or readers differ: + and - pairs, ~ scales and places."""
    old, new = _readings(a), _readings(b)
    for site in dict.fromkeys((*old, *new)):
        before, after = old.get(site, {}), new.get(site, {})
        if before != after:
            yield from _site(site, before, after)


def _readings(graph: Graph) -> dict[str, Reading]:
    found: dict[str, Reading] = {}
    for pair in pairs(graph):
        if pair.tieable and pair.site not in found:
            uses = sites(graph).uses(pair.site)
            found[pair.site] = {u.reader.key: None if u.pair is None else u.pair.value for u in uses}
    return found


def _site(site: str, before: Reading, after: Reading) -> Iterator[str]:
    scales = [sorted({s for s in reading.values() if s is not None}) for reading in (before, after)]
    if not scales[0] or not scales[1]:
        sign = "+" if scales[1] else "-"
        yield f"{sign} '{site}': pair with scale {', '.join(f'{s:.6g}' for s in scales[0] or scales[1])}"
    elif scales[0] != scales[1]:
        yield f"~ '{site}': scale {' and '.join(f'{s:.6g}' for s in scales[0])} -> " + " and ".join(
            f"{s:.6g}" for s in scales[1]
        )
    for reader in dict.fromkeys((*before, *after)):
        if reader not in before or reader not in after:
            yield f"~ '{site}': {'no longer read' if reader in before else 'now read'} by {reader[0]}[{reader[1]}]"
        elif (before[reader] is None) != (after[reader] is None):
            yield f"~ '{site}': read by {reader[0]}[{reader[1]}] {'raw' if after[reader] is None else 'through a pair'}"

"""Compares the quantization of two models: pairs, scales, and which consumers are quantized."""

from __future__ import annotations

from collections.abc import Iterator

from ..graph.graph import Graph
from ..graph.pair import pairs
from ..graph.sites import sites

Consumers = dict[tuple[str, int], float | None]
"""The scale with which each final consumer (node, input index) of a site is quantized; None if it is unquantized."""


def differences(a: Graph, b: Graph) -> Iterator[str]:
    """Yields one line per difference of a site: + and - for pairs, ~ for scales and consumers."""
    old, new = _consumers(a), _consumers(b)
    for site in dict.fromkeys((*old, *new)):
        before, after = old.get(site, {}), new.get(site, {})
        if before != after:
            yield from _site(site, before, after)


def _consumers(graph: Graph) -> dict[str, Consumers]:
    found: dict[str, Consumers] = {}
    for pair in pairs(graph):
        if pair.tieable and pair.site not in found:
            uses = sites(graph).uses(pair.site)
            found[pair.site] = {u.reader.key: None if u.pair is None else u.pair.value for u in uses}
    return found


def _site(site: str, before: Consumers, after: Consumers) -> Iterator[str]:
    scales = [sorted({s for s in consumers.values() if s is not None}) for consumers in (before, after)]
    if not scales[0] or not scales[1]:
        sign = "+" if scales[1] else "-"
        yield f"{sign} '{site}': pair with scale {', '.join(f'{s:.6g}' for s in scales[0] or scales[1])}"
    elif scales[0] != scales[1]:
        yield f"~ '{site}': scale {' and '.join(f'{s:.6g}' for s in scales[0])} -> " + " and ".join(
            f"{s:.6g}" for s in scales[1]
        )
    for node, index in dict.fromkeys((*before, *after)):
        consumer = node, index
        if consumer not in before or consumer not in after:
            yield f"~ '{site}': {'no longer' if consumer in before else 'now'} consumed by {node}[{index}]"
        elif (before[consumer] is None) != (after[consumer] is None):
            state = "unquantized" if after[consumer] is None else "quantized"
            yield f"~ '{site}': consumer {node}[{index}] is now {state}"

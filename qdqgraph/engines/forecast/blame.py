"""Which repairs make an engine worse: the difference of two forecasts, attributed to the findings repaired."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ...graph.graph import Graph, key
from ...graph.pair import pairs
from ...proposals.proposal import PlacePair, Rewire, touched
from ...repair.guard import Identity
from ...rulekit.finding import Finding
from ..layers import EIGHT_BITS, Engine
from ..share import WEIGHTED_KERNELS

REACH = 16
"""Nodes between a repair and the most distant tensor whose change is attributed to it; a Q moves over a few."""


@dataclass
class Cost:
    """What a tensor costs: bytes that layers read and write there, and weighted layers in INT8 that read it.

    `made` names the outputs of those weighted layers.
    """

    bytes: float = 0.0
    int8: float = 0.0
    made: set[str] = field(default_factory=set)


Forecast: TypeAlias = tuple[Graph, Engine]
"""A graph and its forecast engine."""


def blamed(before: Forecast, after: Forecast, applied: Sequence[Finding], *, stored: bool) -> Mapping[Identity, Cost]:
    """Returns the applied findings at which the forecast became worse, by identity, with what each added and lost.

    A difference at a tensor belongs to the nearest repairs, in equal parts.

    Args:
        before: the forecast before the repairs.
        after: the forecast after them.
        applied: the findings that were repaired.
        stored: bytes count; otherwise weighted layers in INT8 alone.
    """
    olds, news = _costs(before[1]), _costs(after[1])
    none = Cost()
    both = {site: (olds.get(site, none), news.get(site, none)) for site in dict.fromkeys((*olds, *news))}
    if not any(new.int8 < old.int8 or (stored and new.bytes > old.bytes) for old, new in both.values()):
        return {}
    owners = _owners((before[0], after[0]), applied)
    found: dict[Identity, Cost] = defaultdict(Cost)
    for site, (old, new) in both.items():
        mine = owners.get(site) or frozenset(f.identity for f in applied)
        for identity in mine:
            found[identity].bytes += (new.bytes - old.bytes) / len(mine)
        readers = mine.intersection(*(owners[name] for name in old.made if name in owners)) or mine
        for identity in readers:
            found[identity].int8 += (old.int8 - new.int8) / len(readers)
    return {i: cost for i, cost in found.items() if cost.int8 > 0 or (stored and cost.bytes > 0)}


def reason(cost: Cost, weighted: int) -> str:
    """Returns why a repair with this cost is refused, in a network with so many weighted layers."""
    if cost.int8 > 0:
        return f"would take {math.ceil(cost.int8)} of {weighted} weighted layers out of INT8"
    return f"would add {math.ceil(cost.bytes):,} bytes a run"


def _costs(engine: Engine) -> Mapping[str, Cost]:
    """The cost at each tensor of the file; what a reformat reads, writes and passes on counts for its input."""
    source: dict[str, str] = {}
    found: dict[str, Cost] = defaultdict(Cost)
    for layer in engine.layers:
        names = [source.get(t.name, t.name) for t in layer.inputs]
        if layer.cause:
            source.update((t.name, names[0]) for t in layer.outputs)
            found[names[0]].bytes += layer.bytes
            continue
        for name, tensor in (*zip(names, layer.inputs, strict=True), *((t.name, t) for t in layer.outputs)):
            found[name].bytes += tensor.bytes
        if names and layer.precision in EIGHT_BITS and layer.kind in WEIGHTED_KERNELS:
            found[names[0]].int8 += 1
            found[names[0]].made.update(t.name for t in layer.outputs)
    return found


def _owners(graphs: Sequence[Graph], applied: Sequence[Finding]) -> Mapping[str, frozenset[Identity]]:
    """The identities of the repairs that are nearest to each tensor."""
    near: dict[str, set[str]] = defaultdict(set)
    for graph in graphs:
        for node in graph.nodes():
            names = [pairs(graph).root(t.name) for t in (*node.inputs, *node.outputs) if t.name]
            data = [name for name in names if not graph.is_constant(name)]
            for name in data:
                near[name].update(data)
    owners: dict[str, frozenset[Identity]] = {}
    edge: dict[str, set[Identity]] = defaultdict(set)
    for finding in applied:
        for site in _sites(graphs, finding):
            edge[site].add(finding.identity)
    for _ in range(REACH):
        owners.update((site, frozenset(mine)) for site, mine in edge.items())
        following: dict[str, set[Identity]] = defaultdict(set)
        for site, mine in edge.items():
            for other in near[site]:
                if other not in owners:
                    following[other] |= mine
        edge = following
    return owners


def _sites(graphs: Sequence[Graph], finding: Finding) -> set[str]:
    """The tensors that a repair changes: of its tie, its edits, and the nodes whose inputs it changes."""
    names = {finding.place, *(finding.tie.sites if finding.tie is not None else ())}
    for edit in finding.edits:
        names |= {edit.tensor} if isinstance(edit, PlacePair | Rewire) else set()
        names |= {node for node, _ in touched(edit)}
    found: set[str] = set()
    for graph in graphs:
        table = pairs(graph)
        found |= {table.root(name) for name in names}
        makers = (graph.producer(name) for name in names)
        found |= {table.root(key(node)) for node in makers if node is not None}
    return found

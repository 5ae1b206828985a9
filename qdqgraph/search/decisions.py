"""`Space`: what may be decided about a quantized network, one decision at a time.

A candidate is a start, which is a repaired model, and the decisions in which it differs from it: units that run in
floating point, and scales of sites that share one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from ..calibration.statistics.scales import best_scale
from ..calibration.statistics.statistics import Statistics
from ..graph.graph import Graph, input_name
from ..graph.pair import pairs
from ..repair.solution import Solution
from ..verify.sensitivity.units import Unit

FLOAT, APART, AS_IS = "float", "apart", "as is"
"""The options of a unit in floating point, of sites that shared a scale and each get their own, and of the start."""
STEPS = (-6, 4)
"""The least and the most factor of a scale, as powers of 2 ** (1/4). A step changes the noise of rounding by 1.5 dB."""
MULTIPLES = {f"x{2 ** (step / 4):.2f}": 2 ** (step / 4) for step in range(STEPS[0], STEPS[1] + 1) if step}
"""The options that multiply the scale of sites, in order, and the factor."""
UP = [AS_IS, *(option for option, factor in MULTIPLES.items() if factor > 1)]
DOWN = [AS_IS, *reversed([option for option, factor in MULTIPLES.items() if factor < 1])]
"""The scale of the start, and its multiples, the nearest first."""
SIMILAR = 0.03
"""Scales that differ by no more than this share are one option."""


@dataclass(frozen=True, order=True)
class Decision:
    """One decision that differs from the start.

    Attributes:
        subject: a unit, or the first of the sites that share a scale.
        option: `FLOAT`, `APART`, one of `MULTIPLES`, or, to measure sites alone as the start has them, `AS_IS`.
    """

    subject: str
    option: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.option}"


@dataclass(frozen=True, order=True)
class Candidate:
    """A start, and the decisions in which it differs from it; at most one for each subject."""

    start: str
    decisions: tuple[Decision, ...] = ()

    def with_(self, *more: Decision) -> Candidate:
        """The candidate with these decisions too; they replace those about the same subjects, and `AS_IS` takes a scale
        back to that of the start."""
        found = {(d.subject, d.option == FLOAT): d for d in (*self.decisions, *more)}
        return Candidate(self.start, tuple(sorted(d for d in found.values() if d.option != AS_IS)))

    def scale_of(self, subject: str) -> str:
        """The option of the scale of a subject: `APART`, one of `MULTIPLES`, or `AS_IS`."""
        return next((d.option for d in self.decisions if d.subject == subject and d.option != FLOAT), AS_IS)

    def without(self, *less: Decision) -> Candidate:
        """The candidate without these decisions."""
        return Candidate(self.start, tuple(d for d in self.decisions if d not in less))


@dataclass(frozen=True, eq=False)
class Space:
    """What may be decided about one start.

    Attributes:
        units: the units that may run in floating point, by name.
        scales: other scales: by the first site that shares a scale and the option, the scale of each site.
        alike: a text for each unit; units with the same text have the same operators and shapes.
    """

    units: Mapping[str, Unit]
    scales: Mapping[str, Mapping[str, Mapping[str, float]]]
    alike: Mapping[str, str] = field(default_factory=dict)

    @property
    def sites(self) -> frozenset[str]:
        """The sites whose scale may change."""
        return frozenset(site for options in self.scales.values() for found in options.values() for site in found)

    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, units first, in file order."""
        units = (Decision(name, FLOAT) for name in self.units)
        scales = (Decision(name, option) for name, options in self.scales.items() for option in options)
        return (*units, *scales)

    def layers(self, decisions: Iterable[Decision]) -> tuple[str, ...]:
        """The keys of the nodes that run in floating point."""
        found = (self.units[d.subject].layers for d in decisions if d.option == FLOAT)
        return tuple(dict.fromkeys(layer for layers in found for layer in layers))

    def scaled(self, decisions: Iterable[Decision]) -> dict[str, float]:
        """The scales that change, by site."""
        found: dict[str, float] = {}
        for decision in decisions:
            if decision.option not in (FLOAT, AS_IS):
                found |= self.scales[decision.subject][decision.option]
        return found

    def sites_of(self, decisions: Iterable[Decision]) -> frozenset[str]:
        """The sites of decisions about scales."""
        found = (options.keys() for d in decisions for options in self.scales[d.subject].values())
        return frozenset(site for sites in found for site in sites)


def space(
    graph: Graph, units: Iterable[Unit], groups: Solution, statistics: Statistics, names: Mapping[str, str]
) -> Space:
    """What may be decided about a repaired graph.

    Args:
        graph: the graph.
        units: its units.
        groups: the sites that the rules tie.
        statistics: of its float network.
        names: tensor of the graph → tensor of the float network, for those with another name.
    """
    found = {unit.name: unit for unit in units}
    scales = {}
    for sites, present in shared(graph, groups).items():
        multiples = {option: dict.fromkeys(sites, present * factor) for option, factor in MULTIPLES.items()}
        scales[sites[0]] = multiples | _apart(sites, statistics, names)
    return Space(found, scales, {name: _alike(graph, unit) for name, unit in found.items()})


def shared(graph: Graph, groups: Solution) -> dict[tuple[str, ...], float]:
    """The sites of each group, and of each site without a group, with their present scale; only those whose pairs are
    symmetric, have one scale, and may have another."""
    present: dict[str, float] = {}
    for pair in pairs(graph):
        if pair.kind == "activation":
            free = pair.agrees and not pair.pinned and pair.scale is not None and pair.scale.size == 1
            same = free and not np.any(pair.zero_point) and present.get(pair.site, pair.value) == pair.value
            present[pair.site] = pair.value if same else math.nan
    found: dict[tuple[str, ...], float] = {}
    for site in present:
        group = groups.group(site)
        sites = (site,) if group is None else tuple(s for s in group.sites if s in present)
        scales = {present[s] for s in sites}
        if len(scales) == 1 and not math.isnan(scale := scales.pop()):
            found[sites] = scale
    return found


def _apart(sites: tuple[str, ...], statistics: Statistics, names: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """A scale for each of several sites, if they are not the same."""
    known = {site: name for site in sites if (name := names.get(site, site)) in statistics}
    if len(known) < max(2, len(sites)):
        return {}
    own = {site: best_scale([statistics[name]], "mse").scale for site, name in known.items()}
    different = all(own.values()) and max(own.values()) > (1 + SIMILAR) * min(own.values())
    return {APART: own} if different else {}


def _alike(graph: Graph, unit: Unit) -> str:
    """The operators and shapes of a unit's layers."""

    def shapes(node: gs.Node) -> Iterator[object]:
        for index in range(len(node.inputs)):
            yield graph.shape(input_name(node, index))

    nodes = (graph.node(layer) for layer in unit.layers)
    return "; ".join(f"{node.op} {[*shapes(node)]} {sorted(map(str, node.attrs.items()))}" for node in nodes)

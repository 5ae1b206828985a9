"""`resolve`: what a scan means for a repair: the groups of sites, and the findings that are still open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..graph.graph import Graph
from ..proposals.proposal import PlacePair
from ..rulekit.finding import Finding, Safety
from .carry_out import Scales
from .guard import Reasons
from .measured import Measured
from .options import Options
from .solution import Solution
from .solver import solve

EXCLUDED = "excluded from this repair by --only or --except"


@dataclass(frozen=True)
class Data:
    """What data say of a graph that the target accepts.

    Attributes:
        measured: the statistics of its sites; None without data.
        held: the ties that the graph met before its scales were measured, by code and place.
    """

    measured: Measured | None = None
    held: frozenset[tuple[str, str]] = frozenset()


NO_DATA = Data()


def resolve(
    graph: Graph,
    found: Sequence[Finding],
    options: Options,
    *,
    exact: bool = False,
    refused: Reasons = MappingProxyType({}),
    data: Data = NO_DATA,
) -> tuple[Solution, tuple[Finding, ...]]:
    """Solves the ties and returns the solution with the open findings: ties already met are dropped.

    A refused finding gets the reason in `refused`, also if it is among those that are `refused` already.
    """
    ties = [f for f in found if f.tie is not None and f.safety is not Safety.MANUAL]
    inside = [f for f in ties if options.covers(f) and f.identity not in refused]
    solution = solved(graph, inside, options, exact, data)
    outside: list[Finding] = []
    if len(inside) < len(ties):
        real = solved(graph, ties, options, exact, data).findings
        left_out = [f for f in real if not options.covers(f) or f.identity in refused]
        outside = [replace(f, refused=f.refused or refused.get(f.identity, EXCLUDED)) for f in left_out]
    scales = Scales(graph, solution)
    placed = [s for f in found if f.tie is None and (s := _placed(scales, f)) is not None]
    settled = [replace(f, refused=f.refused or refused[f.identity]) if f.identity in refused else f for f in placed]
    return solution, tuple(sorted((*settled, *solution.findings, *outside), key=lambda f: f.order))


def solved(graph: Graph, ties: Sequence[Finding], options: Options, exact: bool, data: Data = NO_DATA) -> Solution:
    """Solves ties with the options of a run, see `solve`."""
    return solve(
        graph,
        ties,
        policy=options.policy,
        max_bits_lost=options.limit(data.measured is not None and not options.keep_scales),
        exact=exact,
        measured=data.measured,
        held=data.held,
        keep_scales=options.keep_scales,
    )


def _placed(scales: Scales, finding: Finding) -> Finding | None:
    """Returns the finding, refused if a placement has no scale; None if a reported unequal group is the cause."""
    for edit in finding.edits:
        if not isinstance(edit, PlacePair):
            continue
        source, agreed = scales.source(edit)
        if not agreed and not edit.calibrate:
            return None
        if not source or (edit.calibrate and scales.solution.measured is None):
            also = f" --also {finding.code}" if finding.safety is Safety.MANUAL else ""
            return replace(finding, refused=f"the graph has no scale for '{edit.tensor}': measure it with --data{also}")
    return finding

"""The solver: joins the ties of all rules in one union-find, so that the order of the rules does not matter.

A tie is a hyperedge over sites and is accepted as a whole or refused. Sequential pairwise sharing, as in common
scripts, silently splits groups: the pairs (A, B), (C, A) leave B on A's old quantizer.

A `Policy` (`qdqgraph.rulekit.policy`) chooses the scale of a group. With data (`Measured`), the default policy is the
scale that fits the values of all its sites best, other policies choose among the measured scales of the sites, and the
guard measures the error instead of comparing scales.

Guard: bits lost at a site = log2(group scale / its own original scale). A tie that would exceed the limit at a site is
refused, with both scales and the bits in the reason. The limit is that of the run, or the smallest limit of the group's
ties if any tie has its own. The original scales are stored in the model's metadata (`originals`), so a second run
measures from the original model. Ties are processed in order of the bytes they save, then by code and location: the
same model and rules give the same solution.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import islice

import numpy as np

from ..graph.amax import scale_in
from ..graph.graph import Graph
from ..graph.pair import Pair, bits_lost, pairs
from ..rulekit.finding import Finding, Safety
from ..rulekit.policy import DEFAULT, Policy, SiteScale, unknown_anchor
from .measured import Measured
from .originals import originals
from .solution import Change, Group, Solution
from .tied_sites import TiedSites, two

EXACT_TIE = "its rule labels this tie exact, but it changes a scale, and so the outputs: label it lossy"
"""Why a tie between unequal sites is refused if its finding has `Safety.EXACT`."""


class _RefusedError(Exception):
    """A tie is refused; the message gives the reason with the values.

    Attributes:
        bits_lost: the loss in bits that the guard refuses; None if the tie is refused for another reason.
    """

    def __init__(self, reason: str, bits_lost: float | None = None) -> None:
        super().__init__(reason)
        self.bits_lost = bits_lost


class _Solver:
    """Union-find over sites; every set has what the next tie needs in constant time."""

    def __init__(
        self, graph: Graph, policy: Policy, limit: float, others: Iterable[Policy], measured: Measured | None
    ) -> None:
        self.graph, self.policy, self.limit, self.measured = graph, policy, limit, measured
        self.policies = tuple(dict.fromkeys((DEFAULT, policy, *others)))
        self.originals = originals(graph)
        self.parent: dict[str, str] = {}
        self.sets: dict[str, TiedSites] = {}

    def find(self, site: str) -> str:
        if site not in self.parent:
            self.parent[site] = site
            self.sets[site] = self._single(site)
        top = site
        while self.parent[top] != top:
            top = self.parent[top]
        while self.parent[site] != top:
            self.parent[site], site = top, self.parent[site]
        return top

    def place(self, site: str) -> int:
        """Returns the place of a site in the order of the file: 0 for an input of the graph."""
        maker = self.graph.producer(site)
        return 0 if maker is None else self.graph.position(maker) + 1

    def own(self, pair: Pair) -> float:
        """Returns the scale of a pair before any repair."""
        return min(self.originals.get(pair.site, math.inf), pair.value)

    def _single(self, site: str) -> TiedSites:
        mine = pairs(self.graph).at(site)
        scale = None if self.measured is None else self.measured.scale([site])
        own = pairs(self.graph).scales(site)
        alone = [*own] if scale is None else [scale]
        new = TiedSites([site], two(own), two(alone))
        if alone:
            new.preferred = dict.fromkeys(self.policies, SiteScale(self.place(site), site, max(alone)))
        if mine:
            new.finest = (min(map(self.own, mine)), site)
            new.pinned = frozenset(p.value for p in mine if p.pinned)
            new.types = frozenset(p.types for p in mine)
            new.scale_types = frozenset[str]().union(*(p.scale_types for p in mine))
        return new

    def take(self, finding: Finding, exact: bool, kept: bool = False) -> bool:
        """Joins the sites of a tie; returns False if `exact` forbids it. The guard does not apply to a `kept` tie.

        Raises:
            _RefusedError: the group cannot have one scale within the guard.
        """
        assert finding.tie is not None
        if finding.tie.policy and (fault := unknown_anchor(self.graph, Policy.parse(finding.tie.policy))):
            raise _RefusedError(fault)
        tops = sorted({self.find(s) for s in finding.tie.sites}, key=lambda t: (-len(self.sets[t].own), t))
        members = [self.sets[t] for t in tops]
        group = self._merged(members, finding)
        if exact and len(group.values) > 1:
            return False
        if finding.safety is Safety.EXACT and len(group.values) > 1:
            raise _RefusedError(EXACT_TIE)
        self._check_anchor(group)
        self._check(group, guarded=not kept)
        for top in tops[1:]:
            self.parent[top] = tops[0]
            del self.sets[top]
        group.join()
        self.sets[tops[0]] = group
        return True

    def _check_anchor(self, group: TiedSites) -> None:
        """Refuses a group whose ties name an anchor that cannot give it a scale; the largest scale would be taken."""
        anchor = "" if group.policy is None or len(group.values) < 2 else group.policy.anchor()
        if anchor and anchor not in group.sites:
            sites = ", ".join(f"'{site}'" for site in group.sites[:4])
            raise _RefusedError(f"policy {group.policy}: '{anchor}' is not in the group, whose tensors are {sites}")
        if anchor and not pairs(self.graph).at(anchor) and self.measured is None:
            raise _RefusedError(f"policy {group.policy}: '{anchor}' has no pair, and so no scale")

    def _merged(self, members: Sequence[TiedSites], finding: Finding) -> TiedSites:
        tie = finding.tie
        assert tie is not None
        policies = {m.policy for m in members if m.policy} | ({Policy.parse(tie.policy)} if tie.policy else set())
        if len(policies) > 1:
            names = ", ".join(sorted(map(str, policies)))
            raise _RefusedError(f"rules require different policies in one group: {names}")
        return TiedSites(
            own=members[0].own,
            joining=[m.own for m in members[1:]],
            values=two(frozenset[float]().union(*(m.values for m in members))),
            alone=two(frozenset[float]().union(*(m.alone for m in members))),
            preferred=self._preferred(members),
            finest=min((m.finest for m in members if m.finest), default=None),
            pinned=frozenset[float]().union(*(m.pinned for m in members)),
            types=frozenset[tuple[str, str]]().union(*(m.types for m in members)),
            scale_types=frozenset[str]().union(*(m.scale_types for m in members)),
            policy=next(iter(policies), None),
            limit=min((x for x in (tie.max_bits_lost, *(m.limit for m in members)) if x is not None), default=None),
            tied=True,
        )

    def _preferred(self, members: Sequence[TiedSites]) -> Mapping[Policy, SiteScale]:
        known = [m.preferred for m in members if m.preferred]
        if len(known) < 2:
            return known[0] if known else {}
        return {policy: reduce(policy.prefer, (each[policy] for each in known)) for policy in self.policies}

    def choose(self, group: TiedSites) -> tuple[float, str] | None:
        """Returns the group's scale and the site it comes from ("" if fixed); None if no site has a scale."""
        if not group.preferred:
            return None
        policy = group.policy or self.policy
        anchor = policy.anchor()
        if len(group.alone) == 1 or (anchor and anchor not in group.sites):
            policy = DEFAULT
        preferred = group.preferred[policy]
        scale = policy.scale(preferred)
        if self.measured is not None and policy == DEFAULT:
            best = max(group.pinned) if group.pinned else self.measured.scale(group.sites)
            scale = scale if best is None else best
        return scale_in(scale, group.scale_types), policy.source(preferred)

    def _check(self, group: TiedSites, guarded: bool) -> None:
        chosen = self.choose(group)
        if chosen is None or (group.finest is None and self.measured is None):
            return
        scale, site = chosen
        if len({integers for _, integers in group.types}) > 1:
            raise _RefusedError(
                "the pairs have different types: " + ", ".join(sorted("/".join(t) for t in group.types))
            )
        if self.measured is None and len(group.values) == 1:
            return
        if group.pinned - {scale}:
            raise _RefusedError(
                f"integers with scale {min(group.pinned - {scale}):.6g} enter or leave the network here; "
                f"the group needs {scale:.6g}"
            )
        if not guarded:
            return
        limit = self.limit if group.limit is None else group.limit
        if self.measured is not None:
            lost, worst = max((self.measured.loss(s, scale), s) for s in group.sites)
            own, source = self.measured.scale([worst]) or 0.0, "measured for the group"
        else:
            assert group.finest is not None
            own, worst = group.finest
            lost, source = bits_lost(scale, own), f"of '{site}'" if site else "of the policy"
        if lost > limit:
            raise _RefusedError(
                f"the scale {source}, {scale:.4g}, would cost {lost:.2f} bits at '{worst}' "
                f"(scale {own:.4g}); the limit is {limit:g}",
                lost,
            )


def solve(
    graph: Graph,
    findings: Iterable[Finding],
    *,
    policy: str = "max",
    max_bits_lost: float = 1.0,
    exact: bool = False,
    measured: Measured | None = None,
    held: Collection[tuple[str, str]] = (),
    keep_scales: bool = False,
) -> Solution:
    """Groups the sites of all ties among `findings`.

    Args:
        graph: the graph.
        findings: the findings; those without a tie are ignored.
        policy: how the scale of a group is chosen, unless a tie sets its own policy.
        max_bits_lost: the limit of the guard in bits, unless a tie sets its own.
        exact: accept only ties whose sites have equal scales already, bit for bit.
        measured: statistics of the sites; a group then gets the best scale of all its values.
        held: ties that are met before calibration: the guard does not apply to them, because calibration must not
            separate what already runs in INT8 together.
        keep_scales: the statistics give scales only to sites without one.

    Raises:
        RuleError: the policy is unknown.
        ModelError: the metadata of an earlier repair is damaged.
    """
    findings = tuple(findings)
    asked = [Policy.parse(f.tie.policy) for f in findings if f.tie is not None and f.tie.policy]
    solver = _Solver(graph, Policy.parse(policy), max_bits_lost, asked, None if keep_scales else measured)
    ties = sorted((f for f in findings if f.tie is not None), key=lambda f: (-f.bytes, f.order))
    taken: list[Finding] = []
    refused: list[Finding] = []
    for finding in ties:
        try:
            if solver.take(finding, exact, kept=finding.identity in held):
                taken.append(finding)
        except _RefusedError as reason:
            refused.append(replace(finding, refused=str(reason), bits_lost=reason.bits_lost))
    return replace(_solution(solver, taken, refused), measured=measured)


def held_ties(graph: Graph, findings: Iterable[Finding]) -> frozenset[tuple[str, str]]:
    """Returns the ties of which two or more sites have pairs, all with one scale."""
    found: set[tuple[str, str]] = set()
    for finding in findings:
        scales = [p.value for s in finding.tie.sites for p in pairs(graph).at(s)[:1]] if finding.tie is not None else []
        if len(scales) > 1 and len(set(scales)) == 1:
            found.add(finding.identity)
    return frozenset(found)


def _solution(solver: _Solver, taken: list[Finding], refused: list[Finding]) -> Solution:
    groups: dict[str, Group] = {}
    for top, members in solver.sets.items():
        if not members.tied:
            continue  # a site with refused ties only
        chosen = solver.choose(members)
        ordered = tuple(sorted(members.sites, key=lambda s: (solver.place(s), s)))
        dtype = next(iter(members.scale_types)) if len(members.scale_types) == 1 else "float32"
        scale = None if chosen is None else np.array(chosen[0], dtype)
        agreed = len(members.values) <= 1 and (
            solver.measured is None or scale is None or members.values <= {float(scale)}
        )
        changes = () if agreed or scale is None else tuple(_changes(solver, ordered, float(scale)))
        anchor = chosen[1] if chosen else ""
        groups[top] = Group(ordered, scale, anchor, agreed, changes)
    of = {site: groups[top] for site in list(solver.parent) if (top := solver.find(site)) in groups}
    changed = tuple(change for group in groups.values() for change in group.changes)
    return Solution(tuple(groups.values()), _open(solver, taken, of) + tuple(refused), changed, _of=of)


def _changes(solver: _Solver, sites: Iterable[str], scale: float) -> Iterator[Change]:
    """Yields a change for each pair at these sites that has another scale."""
    measured = solver.measured
    for site in sites:
        for pair in pairs(solver.graph).at(site):
            if pair.value != scale:
                own = solver.own(pair)
                lost = bits_lost(scale, own) if measured is None else measured.loss(site, scale)
                yield Change(site, own, scale, lost)


def _open(solver: _Solver, taken: list[Finding], of: dict[str, Group]) -> tuple[Finding, ...]:
    """Returns the accepted ties that change a scale: those between unequal sites.

    If a group is unequal only across several ties, all its ties are returned.
    """
    open_ties = [f for f in taken if f.tie is not None and not of[f.tie.sites[0]].agreed]
    unequal = {s: _differ(solver.graph, s) for s in {f.tie.sites for f in open_ties if f.tie is not None}}
    local = [f for f in open_ties if f.tie is not None and unequal[f.tie.sites]]
    seen = {id(of[f.tie.sites[0]]) for f in local if f.tie is not None}
    rest = [f for f in open_ties if f.tie is not None and id(of[f.tie.sites[0]]) not in seen]
    return tuple(_numbers(f, of) for f in (*local, *rest))


def _differ(graph: Graph, sites: Iterable[str]) -> bool:
    """Whether the pairs of the sites have several scales."""
    found: set[float] = set()
    for site in sites:
        found.update(islice(pairs(graph).scales(site), 2))
        if len(found) > 1:
            return True
    return False


def _numbers(finding: Finding, of: dict[str, Group]) -> Finding:
    assert finding.tie is not None
    group = of[finding.tie.sites[0]]
    source = f"the scale of '{group.anchor}'" if group.anchor else "the fixed scale"
    them = (
        f"all {len(group.sites)} tensors of the group" if len(group.sites) > 1 else f"all pairs of '{group.sites[0]}'"
    )
    help = f"give {them} {source}, {float(group.scale or 0):.4g}"
    return replace(finding, help=help, bits_lost=group.bits_lost)

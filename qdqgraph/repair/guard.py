"""Refuses repairs that make the engine worse: a stage runs again without them, as long as that makes it better.

The forecast that judges is on a higher level than this module; see `Judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from ..errors import RepairError
from ..graph.graph import Graph
from ..rulekit.finding import Finding
from .solution import Change

Identity: TypeAlias = tuple[str, str]
"""The code and place of a finding."""
Reasons: TypeAlias = Mapping[Identity, str]
"""Why findings are refused."""
ATTEMPTS = 20
"""The limit of attempts of one stage; two are usual where a repair is refused."""


class Judge(Protocol):
    """What repairs do to the engine."""

    def price(self, graph: Graph, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """The remaining findings of the repaired graph, with what they cost in bytes."""

    def refuse(self, before: Graph, after: Graph, applied: Sequence[Finding], illegal: Sequence[Finding]) -> Reasons:
        """Which repairs of a stage make the engine worse, and why; none if it did not become worse.

        Args:
            before: the graph before the stage.
            after: the graph after it.
            applied: the findings that were repaired.
            illegal: the findings for which the target refuses the graph before.
        """

    def doubt(self, before: Graph, after: Graph, applied: Sequence[Finding], illegal: Sequence[Finding]) -> Reasons:
        """The same where the engine became worse at a repair only: other repairs may outweigh it."""

    def better(self, graph: Graph, other: Graph) -> bool:
        """Whether the engine of the other graph is better."""


class Unjudged:
    """No forecast: nothing has a price, and no repair is refused."""

    def price(self, graph: Graph, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """As they are."""
        return findings

    def refuse(self, before: Graph, after: Graph, applied: Sequence[Finding], illegal: Sequence[Finding]) -> Reasons:
        """None."""
        return {}

    def doubt(self, before: Graph, after: Graph, applied: Sequence[Finding], illegal: Sequence[Finding]) -> Reasons:
        """None."""
        return {}

    def better(self, graph: Graph, other: Graph) -> bool:
        """Never."""
        return False


@dataclass(frozen=True)
class Outcome:
    """What a stage came to.

    Attributes:
        graph: the graph after it.
        applied: the findings that it repaired.
        changes: the scales that changed so far, by site.
        scanned: a graph with what the rules found in it, so that it is not scanned again.
    """

    graph: Graph
    applied: tuple[Finding, ...] = ()
    changes: Mapping[str, Change] = field(default_factory=dict)
    scanned: tuple[Graph, tuple[Finding, ...]] | None = None


Attempt: TypeAlias = Callable[[Reasons], Outcome]
"""Runs a stage without the refused findings."""
Verdict: TypeAlias = Callable[[Outcome], Reasons]
"""The repairs of an outcome that the judge refuses or doubts."""


def guarded(
    attempt: Attempt, refuse: Verdict, doubt: Verdict, better: Callable[[Graph, Graph], bool]
) -> tuple[Outcome, Reasons]:
    """Returns the outcome of a stage that makes the engine no worse, and what was refused for it.

    A repair may be refused only because another one, which is refused too, shares its tensors: the forecast divides
    what a tensor costs among the nearest repairs. So the stage runs again, from the refusals of the last attempt alone,
    rule by rule; the first result with fewer refusals counts. And the gain of some repairs may hide the loss of others:
    so the stage also runs without those that are doubted, which are refused if it is better that way.

    Raises:
        RepairError: every attempt makes other repairs that make the engine worse (QDQ905).
    """
    outcome, refused = _unhidden(attempt, refuse)
    for _ in range(ATTEMPTS):
        doubted = {known: why for known, why in doubt(outcome).items() if known not in refused}
        if not doubted:
            break
        again = attempt({**refused, **doubted})
        if refuse(again) or not better(outcome.graph, again.graph):
            break
        outcome, refused = again, {**refused, **doubted}
    return outcome, refused


def _unhidden(attempt: Attempt, refuse: Verdict) -> tuple[Outcome, Reasons]:
    """The outcome that makes the engine no worse, and what is refused for it."""
    outcome, refusals = _settled(attempt, refuse, {})
    refused = _all(refusals)
    for first in _parts(refusals):
        again, more = _settled(attempt, refuse, first)
        fewer = {**first, **_all(more)}
        if len(fewer) < len(refused):
            return again, fewer
    return outcome, refused


def _settled(attempt: Attempt, refuse: Verdict, refused: Reasons) -> tuple[Outcome, list[Reasons]]:
    """The first outcome in which nothing more is refused, and what was refused in each one before it."""
    found: list[Reasons] = []
    for _ in range(ATTEMPTS):
        outcome = attempt({**refused, **_all(found)})
        new = refuse(outcome)
        if not new:
            return outcome, found
        found.append(new)
    raise RepairError(
        f"QDQ905: after {ATTEMPTS} attempts, repairs still make the engine worse; exclude {_codes(_all(found))}"
    )


def _parts(refusals: Sequence[Reasons]) -> list[Reasons]:
    """What the last attempt refused, by rule; nothing if that is all that was refused, by one rule."""
    last = refusals[-1] if refusals else {}
    codes = sorted({code for code, _ in last})
    if len(refusals) < 2 and len(codes) < 2:
        return []
    return [{known: why for known, why in last.items() if known[0] == code} for code in codes]


def _all(refusals: Sequence[Reasons]) -> Reasons:
    return {known: why for reasons in refusals for known, why in reasons.items()}


def _codes(refused: Reasons) -> str:
    return ", ".join(sorted({code for code, _ in refused}))

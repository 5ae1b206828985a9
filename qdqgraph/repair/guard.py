"""Refuses repairs that make the engine worse: a stage runs again without them until what is left makes it no worse.

The forecast that judges is on a higher level than this module; see `Refuse`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ..errors import RepairError
from ..graph.graph import Graph
from ..rulekit.finding import Finding

Identity: TypeAlias = tuple[str, str]
"""The code and place of a finding."""
Reasons: TypeAlias = Mapping[Identity, str]
"""Why findings are refused."""
Refuse: TypeAlias = Callable[[Graph, Graph, Sequence[Finding], Sequence[Finding]], Reasons]
"""Which repairs make the engine worse, and why; given the graph before and after a stage, the findings repaired in it,
and the findings for which the target refuses the graph before."""
ATTEMPTS = 20
"""The limit of attempts of one stage; two are usual where a repair is refused."""
Attempt: TypeAlias = Callable[[Reasons], tuple[Graph, Sequence[Finding]]]
"""Runs a stage without the refused findings; returns its graph and the findings that it repaired."""


def guarded(attempt: Attempt, refuse: Callable[[Graph, Sequence[Finding]], Reasons]) -> tuple[Graph, Reasons]:
    """Returns the result of a stage that makes the engine no worse, and what was refused for it.

    A repair may be refused only because another one, which is refused too, shares its tensors: the forecast divides
    what a tensor costs among the nearest repairs. So the stage runs again, from the refusals of the last attempt alone,
    rule by rule; the first result with fewer refusals counts.

    Args:
        attempt: runs the stage without the refused findings.
        refuse: as `Refuse`, for a graph after the stage and the findings repaired in it.

    Raises:
        RepairError: every attempt makes other repairs that make the engine worse (QDQ905).
    """
    after, refusals = _settled(attempt, refuse, {})
    best = refused = _all(refusals)
    for first in _parts(refusals):
        again, more = _settled(attempt, refuse, first)
        refused = {**first, **_all(more)}
        if len(refused) < len(best):
            return again, refused
    return (after, best) if refused is best else (attempt(best)[0], best)


def _settled(
    attempt: Attempt, refuse: Callable[[Graph, Sequence[Finding]], Reasons], refused: Reasons
) -> tuple[Graph, list[Reasons]]:
    """The first attempt after which nothing more is refused, and what each attempt before it refused."""
    found: list[Reasons] = []
    for _ in range(ATTEMPTS):
        after, applied = attempt({**refused, **_all(found)})
        new = refuse(after, applied)
        if not new:
            return after, found
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

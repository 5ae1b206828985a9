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


def guarded(
    attempt: Callable[[Reasons], tuple[Graph, Sequence[Finding]]],
    refuse: Callable[[Graph, Sequence[Finding]], Reasons],
) -> tuple[Graph, Reasons]:
    """Returns the result of a stage that makes the engine no worse, and what was refused for it.

    Args:
        attempt: runs the stage without the refused findings; returns its graph and the findings that it repaired.
        refuse: as `Refuse`, for a graph after the stage and the findings repaired in it.

    Raises:
        RepairError: every attempt makes other repairs that make the engine worse (QDQ905).
    """
    refused: dict[Identity, str] = {}
    for _ in range(ATTEMPTS):
        after, applied = attempt(refused)
        new = refuse(after, applied)
        if not new:
            return after, refused
        refused |= new
    raise RepairError(
        f"QDQ905: after {ATTEMPTS} attempts, repairs still make the engine worse; exclude {_codes(refused)}"
    )


def _codes(refused: Reasons) -> str:
    return ", ".join(sorted({code for code, _ in refused}))

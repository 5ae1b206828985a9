"""`Alone`: what one decision alone changes, in time and in quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .decisions import Candidate, Decision
from .found import Found
from .gains import scored, surely
from .start import Start

ERRORS = 2.0
"""The standard errors that the mean gain of a decision alone must exceed. With one, a sixth of those that change
nothing would count; a network has hundreds, and only half of the samples are seen here."""


class Ask(Protocol):
    """Measures candidates, in order."""

    def __call__(self, candidates: Sequence[Candidate], *, held: bool) -> list[Found]:
        """The results; with `held`, on the held-back samples and with the score too."""


@dataclass(frozen=True)
class Alone:
    """What one decision alone changes.

    Attributes:
        decision: the decision.
        slower: milliseconds more than the start.
        better: the share of the start's noise that it removes, the mean over outputs, negative if it adds noise; what
            the score gains if the network has no floating-point output.
        sure: whether the mean gain of the samples exceeds `ERRORS`; without an SQNR of each, whether it is `better`.
    """

    decision: Decision
    slower: float
    better: float
    sure: bool

    @property
    def matters(self) -> bool:
        """Whether it changes time or outputs; a unit that only moves data often changes neither."""
        return self.slower != 0 or self.better != 0


def alone_of(start: Start, base: Found, ask: Ask) -> list[Alone]:
    """What each decision of a start changes alone, on the samples of the search; those that change nothing are left
    out."""
    decisions = start.decisions
    found = ask([Candidate(start.name, (d,)) for d in decisions], held=False)
    return [each for d, f in zip(decisions, found, strict=True) if (each := _of(d, base, f)).matters]


def _of(decision: Decision, base: Found, found: Found) -> Alone:
    better, sure = _better(base, found), surely((base.searched,), (found.searched,), ERRORS)
    return Alone(decision, found.ms - base.ms, better, better > 0 if sure is None else sure > 0)


def _better(base: Found, found: Found) -> float:
    before, after = base.searched, found.searched
    shares = [1 - 10 ** ((before.outputs_db[name] - db) / 10) for name, db in after.outputs_db.items()]
    return sum(shares) / len(shares) if shares else scored(before, after) or 0.0

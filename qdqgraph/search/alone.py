"""`Alone`: what one decision alone changes, in time and in quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .decisions import Candidate, Decision
from .front import surely
from .start import Found, Start


class Ask(Protocol):
    """Measures candidates, in order."""

    def __call__(self, candidates: Sequence[Candidate], *, held: bool) -> list[Found]:
        """The results; with `held`, on the held-back samples too."""


@dataclass(frozen=True)
class Alone:
    """What one decision alone changes.

    Attributes:
        decision: the decision.
        slower: milliseconds more than the start.
        better: the share of the start's noise that it removes, the mean over outputs, negative if it adds noise; with a
            score, what the score gains.
        sure: whether the mean gain of the samples exceeds its standard error; without an SQNR of each, whether it is
            `better`.
    """

    decision: Decision
    slower: float
    better: float
    sure: bool


def alone_of(start: Start, base: Found, ask: Ask) -> list[Alone]:
    """What each decision of a start changes alone, on the samples of the search."""
    decisions = start.decisions
    found = ask([Candidate(start.name, (d,)) for d in decisions], held=False)
    return [_of(d, base, f) for d, f in zip(decisions, found, strict=True)]


def _of(decision: Decision, base: Found, found: Found) -> Alone:
    better, sure = _better(base, found), surely((base.searched,), (found.searched,))
    return Alone(decision, found.ms - base.ms, better, better > 0 if sure is None else sure > 0)


def _better(base: Found, found: Found) -> float:
    before, after = base.searched, found.searched
    if before.score is not None and after.score is not None:
        return after.score - before.score
    shares = [1 - 10 ** ((before.outputs_db[name] - db) / 10) for name, db in after.outputs_db.items()]
    return sum(shares) / len(shares)

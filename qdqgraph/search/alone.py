"""`Alone`: what one decision alone changes, in time and in quality.

A unit in floating point is measured in the quantized network. The scale of sites is measured with only these sites
quantized: in the quantized network the noise of all others hides what it changes, above all on few samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from ..verify.sensitivity.levels import Sampled, share
from .decisions import AS_IS, DOWN, MULTIPLES, UP, Candidate, Decision
from .found import Found, How
from .gains import scored, surely
from .start import Start

ERRORS = 2.0
"""The standard errors that the mean gain of a decision alone must exceed. With one, a sixth of those that change
nothing would count; a network has hundreds, and only half of the samples are seen here."""
LEAST = 0.02
"""The share of the noise of sites alone that the next multiple of their scale must remove to be taken."""


class Ask(Protocol):
    """Measures candidates, in order."""

    def __call__(self, candidates: Sequence[Candidate], *, how: How) -> list[Found]:
        """The results."""


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
    out. For sites that share a scale, the best of its multiples only.

    Args:
        start: the start.
        base: what was measured of it.
        ask: measures candidates.
    """
    decisions = [d for d in start.decisions if d.option not in MULTIPLES]
    found = ask([Candidate(start.name, (d,)) for d in decisions], how=How.SEARCHED)
    each = [_of(d, base, base, f) for d, f in zip(decisions, found, strict=True)]
    return [a for a in (*each, *_multiples(start, base, ask)) if a.matters]


def _multiples(start: Start, base: Found, ask: Ask) -> list[Alone]:
    """For sites that share a scale, the multiple of it with the least noise of these sites alone: up and down from the
    scale of the start, as long as each step removes `LEAST`. Each step of all sites is one batch."""
    subjects = dict.fromkeys(d.subject for d in start.decisions if d.option in MULTIPLES)
    found: dict[Decision, Found] = {}

    def measure(decisions: Sequence[Decision]) -> None:
        found.update(zip(decisions, ask([Candidate(start.name, (d,)) for d in decisions], how=How.ALONE), strict=True))

    measure([Decision(subject, AS_IS) for subject in subjects])
    last = {subject: [Decision(subject, AS_IS)] for subject in subjects}
    for way in (UP, DOWN):
        going = list(subjects)
        for now, then in pairwise(way):
            measure([Decision(subject, then) for subject in going])
            going = [s for s in going if _improves(base, found[Decision(s, now)], found[Decision(s, then)])]
            if not going:
                break
            for subject in going:
                last[subject].append(Decision(subject, then))
    made = []
    for present, *ahead in last.values():
        each = [_of(d, base, found[present], found[d]) for d in ahead]
        made += sorted(each, key=lambda a: -a.better)[:1]
    return made


def _improves(base: Found, before: Found, after: Found) -> bool:
    whole, level = base.deciding[0], before.deciding[0]
    least = LEAST * share(whole, level) if level.outputs_db else 0.0
    return _better(whole, level, after.deciding[0]) > least


def _of(decision: Decision, base: Found, before: Found, after: Found) -> Alone:
    """What a decision changes from `before` to `after`, of the noise of `base`."""
    better = _better(base.deciding[0], before.deciding[0], after.deciding[0])
    sure = surely(before.deciding[:1], after.deciding[:1], ERRORS)
    return Alone(decision, after.ms - before.ms, better, better > 0 if sure is None else sure > 0)


def _better(base: Sampled, before: Sampled, after: Sampled) -> float:
    if after.outputs_db:
        return share(base, before) - share(base, after)
    return scored(before, after) or 0.0

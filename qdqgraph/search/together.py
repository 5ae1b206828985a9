"""`together`: scales changed step by step in the quantized network.

Where errors cancel, as those of two tensors that are clipped, the best scale of a tensor alone is not its best scale in
the network. On Fashion-MNIST the errors of the scales alone sum up to four times that of all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from ..verify.sensitivity.levels import Sampled, share
from .alone import ERRORS, LEAST, Ask
from .decisions import AS_IS, DOWN, MULTIPLES, UP, Candidate, Decision
from .found import Found, How
from .gains import gained, surely

ROUNDS = 4
"""Rounds of steps. Each measures the scales that gained in the one before; the first one, all."""
LADDER = [*reversed(DOWN), *UP[1:]]
"""The options of a scale, from the least to the largest."""
ADDED = 12
"""The most candidates of a round that are measured on both halves."""


def together(
    now: Candidate,
    base: Candidate,
    decisions: Iterable[Decision],
    found: Mapping[Candidate, Found],
    ask: Ask,
    measure: Callable[[Iterable[Candidate]], None],
) -> Candidate:
    """A candidate with scales that surely gain in the network, one step of each after another.

    Scales take part whose sites alone have `LEAST` of the noise. A step of one counts if the mean gain of the samples
    of the search exceeds `ERRORS` standard errors. Those of a round are added up, the surest first, and both halves
    judge the sums.

    Args:
        now: where to begin; measured on both halves.
        base: what gains are compared with; measured.
        decisions: about scales; others are ignored.
        found: what `measure` measured.
        ask: measures candidates.
        measure: measures candidates on both halves.
    """
    subjects = _loud(now.start, found[base], decisions, ask)
    for _ in range(ROUNDS):
        steps = [step for subject in subjects for step in _steps(now, subject)]
        each = ask([now.with_(step) for step in steps], how=How.SEARCHED)
        before = found[now].deciding[:1]
        likely = {step: gain for step, f in zip(steps, each, strict=True) if (gain := _gain(before, f, 0)) > 0}
        sure = {step: gain for step, f in zip(steps, each, strict=True) if (gain := _gain(before, f, ERRORS)) > 0}
        sums = list(_sums(now, sorted(sure, key=lambda step: (-sure[step], step))))
        measure(sums)
        best = max((now, *sums), key=lambda c: gained(found[c], found[base]))
        if best == now:
            break
        now, subjects = best, [s for s in subjects if any(step.subject == s for step in likely)]
    return now


def _loud(start: str, base: Found, decisions: Iterable[Decision], ask: Ask) -> list[str]:
    """The subjects whose sites alone have `LEAST` of the noise; other scales change less than 0.1 dB."""
    subjects = list(dict.fromkeys(d.subject for d in decisions if d.option in MULTIPLES))
    alone = ask([Candidate(start, (Decision(subject, AS_IS),)) for subject in subjects], how=How.ALONE)
    whole = base.deciding[0]
    return [
        subject
        for subject, found in zip(subjects, alone, strict=True)
        if whole.outputs_db and share(whole, found.deciding[0]) >= LEAST
    ]


def _steps(now: Candidate, subject: str) -> Iterator[Decision]:
    """The next smaller and the next larger scale."""
    option = now.scale_of(subject)
    for one, other in pairwise(LADDER):
        if option in (one, other):
            yield Decision(subject, other if option == one else one)


def _gain(before: Sequence[Sampled], after: Found, errors: float) -> float:
    """The mean gain of the samples, less so many standard errors; 0 if it is not known."""
    return surely(before, after.deciding[:1], errors) or 0.0


def _sums(now: Candidate, steps: Sequence[Decision]) -> Iterator[Candidate]:
    """The candidate with the first step, the first two, and so on: of many, so many numbers of them."""
    taken: dict[str, Decision] = {}
    for step in steps:
        taken.setdefault(step.subject, step)
    ordered = list(taken.values())
    every = -(-len(ordered) // ADDED)
    for count in range(every, len(ordered) + every, every) if ordered else ():
        yield now.with_(*ordered[:count])

"""`searched`: the candidates that a search measures: first each decision alone, then the best ones added up one after
another, then changes of the front, some by Optuna's sampler."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from .alone import Alone, Ask, alone_of
from .decisions import FLOAT, MULTIPLES, Candidate
from .found import Found, How
from .front import Measured, front
from .gains import gained
from .sampler import proposed
from .start import Start
from .together import together

PREFIXES = 24
"""Numbers of added decisions that are measured on the way to the most accurate candidate."""
BATCH = 8
"""Candidates of a generation; processes share them."""
FLIPS = 3
"""The most decisions that a change of the front differs in."""
SMALL = 1e-9
"""Milliseconds that do not count."""
WORTH = 0.005
"""The share of the noise, or the score, that a decision without cost must gain: less may be an accident of the samples.
"""


def searched(starts: Sequence[Start], ask: Ask, *, seed: int, trials: int) -> tuple[Measured, ...]:
    """What a search measured on both halves of the samples.

    Args:
        starts: the repaired models, the one of `fix` first.
        ask: measures candidates.
        seed: of the changes; the same seed gives the same candidates.
        trials: the number of changes of the front.
    """
    found: dict[Candidate, Found] = {}

    def measure(candidates: Iterable[Candidate]) -> None:
        asked = [c for c in dict.fromkeys(candidates) if c not in found]
        found.update(zip(asked, ask(asked, how=How.BOTH), strict=True))

    measure(Candidate(start.name) for start in starts)
    alone: dict[str, list[Alone]] = {}
    for start in promising(starts, found):
        alone[start.name] = alone_of(start, found[Candidate(start.name)], ask)
        best = _free(start, alone[start.name], found, measure)
        best = together(best, Candidate(starts[0].name), start.decisions, found, ask, measure)
        measure(_prefixes(best, [a for a in alone[start.name] if a.better > 0 and a.slower > SMALL], _by_ratio))
        measure(_prefixes(best, [a for a in alone[start.name] if a.better <= 0 and a.slower < -SMALL], _by_loss))
        measure([Candidate(start.name).with_(*(d for d in start.decisions if d.option == FLOAT))])
    known = {start.name: start for start in starts if start.name in alone}
    base = found[Candidate(starts[0].name)]
    for generation in range(-(-trials // BATCH)):
        count = min(BATCH, trials - generation * BATCH)
        measured = tuple(Measured(c, f) for c, f in found.items() if c.start in known)
        own = random.Random(int.from_bytes(hashlib.sha256(f"{seed} {generation}".encode()).digest()[:8], "big"))
        changes = _changes(front(measured, base), known, alone, own, count - count // 4)
        measure([*changes, *proposed(measured, base, alone, own.randrange(2**31), count // 4)])
    return tuple(Measured(candidate, each) for candidate, each in found.items())


def promising(starts: Sequence[Start], found: dict[Candidate, Found]) -> tuple[Start, ...]:
    """The starts whose decisions are worth measuring: the front of the starts, the most accurate first, at most two."""
    base = found[Candidate(starts[0].name)]
    ahead = front((Measured(Candidate(s.name), found[Candidate(s.name)]) for s in starts), base)
    names = [m.candidate.start for m in sorted(ahead, key=lambda m: -gained(m.found, base))]
    return tuple(s for name in names[:2] for s in starts if s.name == name)


def _free(
    start: Start,
    alone: Sequence[Alone],
    found: dict[Candidate, Found],
    measure: Callable[[Iterable[Candidate]], None],
) -> Candidate:
    """The best candidate to begin with: the start with decisions that cost neither time nor quality, as far as that is
    true of them together."""
    base = Candidate(start.name)
    free = [a for a in alone if a.slower <= SMALL and _is_gain(a)]
    candidates = [base, *_prefixes(base, free, lambda a: -a.better)]
    measure(candidates)
    within = [c for c in candidates if found[c].ms <= found[base].ms + SMALL]
    return max(within, key=lambda c: (gained(found[c], found[base]), -found[c].ms))


def _is_gain(alone: Alone) -> bool:
    """Whether a decision that takes no more time is worth trying with others. Scales of few sites change little each,
    but are measured without the noise of the others; so all that remove noise take part. In one export of YOLOX, 21 of
    them together gain 0.9 dB, and those that are surely a gain alone none."""
    if alone.decision.option in MULTIPLES:
        return alone.better > 0
    return alone.better >= 0 and (alone.slower < -SMALL or (alone.sure and alone.better > WORTH))


def _by_ratio(alone: Alone) -> float:
    return -alone.better / alone.slower


def _by_loss(alone: Alone) -> float:
    return -alone.better / -alone.slower


def _prefixes(base: Candidate, alone: Sequence[Alone], order: Callable[[Alone], float]) -> list[Candidate]:
    """The candidate with the first decision, with the first two, and so on: all of the first ones, then fewer."""
    ordered = sorted(alone, key=lambda a: (order(a), a.decision))
    candidates, current = [], base
    for each in ordered:
        current = current.with_(each.decision)
        candidates.append(current)
    if len(candidates) <= PREFIXES:
        return candidates
    rest = candidates[PREFIXES // 2 :]
    step = -(-len(rest) // (PREFIXES // 2))
    return [*candidates[: PREFIXES // 2], *rest[step - 1 :: step], candidates[-1]]


def _changes(
    ahead: Sequence[Measured],
    starts: Mapping[str, Start],
    alone: Mapping[str, Sequence[Alone]],
    own: random.Random,
    count: int,
) -> list[Candidate]:
    """Candidates of the front with a few decisions changed; units that are alike are changed together or apart."""
    made: dict[Candidate, None] = {}
    for _ in range(count * 20):
        if len(made) >= count or not ahead:
            break
        candidate = own.choice(ahead).candidate
        decisions = [a.decision for a in alone[candidate.start]]
        for _ in range(own.randint(1, FLIPS) if decisions else 0):
            decision = own.choice(decisions)
            several = [decision]
            if decision.option == FLOAT and own.random() < 0.5:
                alike = starts[candidate.start].space.alike
                several = [d for d in decisions if d.option == FLOAT and alike[d.subject] == alike[decision.subject]]
            change = candidate.without if decision in candidate.decisions else candidate.with_
            candidate = change(*several)
        made[candidate] = None
    return list(made)

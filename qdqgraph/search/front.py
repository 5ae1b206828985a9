"""The front of a search, and what a budget chooses from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

from ..errors import ModelError
from ..verify.sensitivity.levels import Sampled
from .decisions import Candidate
from .start import Found, quality

SCORE_NOISE = 0.005
"""The share of a score that is noise: the standard error of an accuracy on 2,000 inputs is 0.3 to 1 %."""
TIE = 1e-6
"""What a dB counts among scores that are equal."""


@dataclass(frozen=True)
class Measured:
    """A candidate and what was measured of it, on both halves of the samples."""

    candidate: Candidate
    found: Found


def gained(found: Found, base: Found) -> float:
    """What a candidate surely gains over the repaired model in quality.

    Decisions are chosen by few samples, so a gain may be an accident of these. In dB it is the least of the gains on
    the two halves, and of the mean over all samples less its standard error. A score does not say how sure it is: its
    gain counts if it is more than `SCORE_NOISE` and that of the samples in dB is sure too. Of candidates whose scores
    are equal in this sense, the one with the larger gain in dB gains more.
    """
    gain = found.quality - base.quality
    if found.held is None or base.held is None:
        return gain
    sure = surely((base.searched, base.held), (found.searched, found.held))
    if found.searched.score is not None:
        if gain < 0 or (sure is not None and sure <= 0):
            return min(gain, 0.0)
        if gain > SCORE_NOISE * abs(base.quality):
            return gain
        return 0.0 if sure is None else sure * TIE
    return min(gain, quality(found.held) - quality(base.held), gain if sure is None else sure)


def surely(before: Sequence[Sampled], after: Sequence[Sampled]) -> float | None:
    """The mean gain of the samples in dB, less its standard error; None if it is not known."""
    old, new = (np.array([db for level in levels for db in level.samples_db]) for levels in (before, after))
    if len(old) != len(new) or len(old) < 2:
        return None
    gains = new - old
    return float(gains.mean() - gains.std(ddof=1) / math.sqrt(len(gains)))


@dataclass(frozen=True)
class Budget:
    """What a result must keep; without a value, no more time than the repaired model, and then the best quality.

    Attributes:
        least_db: the least SQNR of the outputs against the float network, in dB; then the fastest.
        most_drop: the most that the score may be below that of the float network; then the fastest.
        least_speed: the least times that it is faster than the float network; then the best quality.
    """

    least_db: Annotated[float | None, Meta(description="The least SQNR against the float network, in dB.")] = None
    most_drop: Annotated[float | None, Meta(description="The most that the score may fall.")] = None
    least_speed: Annotated[float | None, Meta(description="The least speed, in times that of the float network.")] = (
        None
    )

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ModelError: several are given, or one is out of range.
        """
        given = [v for v in (self.least_db, self.most_drop, self.least_speed) if v is not None]
        if len(given) > 1:
            raise ModelError("give one of --budget-db, --max-drop and --min-speed")
        if self.most_drop is not None and not self.most_drop >= 0:
            raise ModelError(f"a drop of {self.most_drop}: give how much of the score may be lost, 0 or more")
        if self.least_speed is not None and not self.least_speed > 0:
            raise ModelError(f"a speed of {self.least_speed}: give how many times faster, above 0")

    @property
    def text(self) -> str:
        """The budget in words."""
        if self.least_db is not None:
            return f"at least {self.least_db:g} dB, the fastest"
        if self.most_drop is not None:
            return f"a score at most {self.most_drop:g} below float, the fastest"
        if self.least_speed is not None:
            return f"at least {self.least_speed:g} times as fast as float, the best quality"
        return "no slower than the repaired model, the best quality"

    def ranked(
        self, found: Iterable[Measured], base: Found, floats: Found, *, clocked: bool = False
    ) -> tuple[Measured, ...]:
        """What is within the budget, best first.

        Args:
            found: the candidates.
            base: the repaired model.
            floats: the float network.
            clocked: times were measured. An estimate is too rough to say alone that a candidate is no slower than the
                repaired model: then it must move no more bytes either.
        """
        if self.least_db is None and self.most_drop is None:
            most = base.ms if self.least_speed is None else floats.ms / self.least_speed
            most_bytes = base.bytes if self.least_speed is None and not clocked else math.inf
            within = [m for m in found if m.found.ms <= most and m.found.bytes <= most_bytes]
            return tuple(sorted(within, key=lambda m: (-gained(m.found, base), m.found.ms, *_plain(m, base))))
        within = [m for m in found if self._kept(m.found, floats)]
        return tuple(sorted(within, key=lambda m: (m.found.ms, -gained(m.found, base), m.candidate)))

    def _kept(self, found: Found, floats: Found) -> bool:
        """Whether both halves of the samples keep the budget on average: the search may have fitted its own half."""
        levels = [level for level in (found.searched, found.held) if level is not None]
        if self.most_drop is not None:
            drops = [quality(floats.searched) - quality(level) for level in levels]
            return max(drops) <= self.most_drop
        known = [level.sqnr_db for level in levels if level.sqnr_db is not None]
        return bool(known) and self.least_db is not None and sum(known) / len(known) >= self.least_db


def _plain(measured: Measured, base: Found) -> tuple[bool, int, Candidate]:
    """What decides among equals: the repaired model itself, then the fewest decisions."""
    return measured.found != base, len(measured.candidate.decisions), measured.candidate


def front(found: Iterable[Measured], base: Found) -> tuple[Measured, ...]:
    """The candidates that no other one is at least as good as in time and in what it gains over the repaired model,
    fastest first."""
    best: list[Measured] = []
    for measured in sorted(found, key=lambda m: (m.found.ms, -gained(m.found, base), m.candidate)):
        if not best or gained(measured.found, base) > gained(best[-1].found, base):
            best.append(measured)
    return tuple(best)


def dominated(one: Found, other: Found) -> bool:
    """Whether `one` is no better than `other` in time and in quality, on either half, and worse in one."""
    pairs = [(one.ms, other.ms), (-one.quality, -other.quality)]
    if one.held is not None and other.held is not None:
        pairs.append((-quality(one.held), -quality(other.held)))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def spread_out(found: Sequence[Measured], count: int) -> tuple[Measured, ...]:
    """At most so many of the front, with its two ends, evenly between them."""
    if len(found) <= count:
        return tuple(found)
    steps = [round(i * (len(found) - 1) / (count - 1)) for i in range(count)] if count > 1 else [0]
    return tuple(found[i] for i in dict.fromkeys(steps))

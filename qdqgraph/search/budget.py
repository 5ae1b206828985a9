"""`Budget`: what the result of a search must keep, and what it chooses by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ..errors import ModelError
from .decisions import Candidate
from .found import Found, quality
from .front import Measured
from .gains import gained


@dataclass(frozen=True)
class Budget:
    """What a result must keep; without a value, no more time than the repaired model, and then the best quality.

    Attributes:
        least_db: the least SQNR of the outputs against the float network, in dB; then the fastest.
        most_drop: the most that the score may be below that of the float network; then the fastest.
        least_speed: the least times that it is faster than the float network; then the best quality.
        most_slower: the most that it is slower than the repaired model, in percent; then the best quality.
    """

    least_db: Annotated[float | None, Meta(description="The least SQNR against the float network, in dB.")] = None
    most_drop: Annotated[float | None, Meta(description="The most that the score may fall.")] = None
    least_speed: Annotated[float | None, Meta(description="The least speed, in times that of the float network.")] = (
        None
    )
    most_slower: Annotated[
        float | None, Meta(description="The most that it is slower than the repaired model, in percent.")
    ] = None

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ModelError: several are given, or one is out of range.
        """
        given = (self.least_db, self.most_drop, self.least_speed, self.most_slower)
        if sum(value is not None for value in given) > 1:
            raise ModelError("give one of --budget-db, --max-drop, --min-speed and --max-slower")
        if self.most_drop is not None and not self.most_drop >= 0:
            raise ModelError(f"a drop of {self.most_drop}: give how much of the score may be lost, 0 or more")
        if self.least_speed is not None and not self.least_speed > 0:
            raise ModelError(f"a speed of {self.least_speed}: give how many times faster, above 0")
        if self.most_slower is not None and not self.most_slower >= 0:
            raise ModelError(f"{self.most_slower} percent slower: give 0 or more")

    @property
    def text(self) -> str:
        """The budget in words."""
        if self.least_db is not None:
            return f"at least {self.least_db:g} dB, the fastest"
        if self.most_drop is not None:
            return f"a score at most {self.most_drop:g} below float, the fastest"
        if self.least_speed is not None:
            return f"at least {self.least_speed:g} times as fast as float, the best quality"
        if self.most_slower is not None:
            return f"at most {self.most_slower:g} % slower than the repaired model, the best quality"
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
            most = base.ms * (1 + (self.most_slower or 0) / 100)
            if self.least_speed is not None:
                most = floats.ms / self.least_speed
            free = clocked or self.least_speed is not None or self.most_slower is not None
            within = [m for m in found if m.found.ms <= most and (free or m.found.bytes <= base.bytes)]
            return tuple(sorted(within, key=lambda m: (-gained(m.found, base), m.found.ms, *_plain(m, base))))
        within = [m for m in found if self._kept(m.found, floats)]
        return tuple(sorted(within, key=lambda m: (m.found.ms, -gained(m.found, base), m.candidate)))

    def _kept(self, found: Found, floats: Found) -> bool:
        """Whether both halves of the samples keep the budget on average: the search may have fitted its own half."""
        if self.most_drop is not None:
            drops = [quality(floats.searched) - quality(level) for level in found.levels]
            return max(drops) <= self.most_drop
        known = [level.sqnr_db for level in found.levels if level.sqnr_db is not None]
        return bool(known) and self.least_db is not None and sum(known) / len(known) >= self.least_db


def _plain(measured: Measured, base: Found) -> tuple[bool, int, Candidate]:
    """What decides among equals: the repaired model itself, then the fewest decisions."""
    return measured.found != base, len(measured.candidate.decisions), measured.candidate

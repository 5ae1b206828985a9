"""The front of a search: what no other candidate is better than in time and in quality."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .decisions import Candidate
from .found import Found
from .gains import gained


@dataclass(frozen=True)
class Measured:
    """A candidate and what was measured of it, on both halves of the samples."""

    candidate: Candidate
    found: Found


def front(found: Iterable[Measured], base: Found) -> tuple[Measured, ...]:
    """The candidates that no other one is at least as good as in time and in what it gains over the repaired model,
    fastest first."""
    best: list[Measured] = []
    for measured in sorted(found, key=lambda m: (m.found.ms, -gained(m.found, base), m.candidate)):
        if not best or gained(measured.found, base) > gained(best[-1].found, base):
            best.append(measured)
    return tuple(best)


def spread_out(found: Sequence[Measured], count: int) -> tuple[Measured, ...]:
    """At most so many of the front, with its two ends, evenly between them."""
    if len(found) <= count:
        return tuple(found)
    steps = [round(i * (len(found) - 1) / (count - 1)) for i in range(count)] if count > 1 else [0]
    return tuple(found[i] for i in dict.fromkeys(steps))

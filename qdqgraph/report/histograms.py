"""What data show of a tensor: its range and a histogram of few bins, small enough to keep with a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..calibration.fitted import Fitted
from ..calibration.statistics.spread import BINS, Spread
from ..calibration.tables.first import TableFirst
from ..repair.measured import Measured

SHOWN = 64
"""The most bins of a histogram."""


@dataclass(frozen=True)
class Values:
    """The values of a tensor in the float network, on all samples.

    Attributes:
        low: the smallest value.
        high: the largest value.
        start: where the first bin begins.
        width: of a bin.
        counts: how many values each bin contains.
    """

    low: float
    high: float
    start: float
    width: float
    counts: tuple[int, ...]

    @classmethod
    def of(cls, spread: Spread) -> Values:
        """A spread with at most `SHOWN` bins; each joins as many bins of the spread."""
        used = np.flatnonzero(spread.counts)
        first, last = int(used[0]), int(used[-1])
        joined = -(-(last - first + 1) // SHOWN)
        counts = np.add.reduceat(spread.counts[first : last + 1], np.arange(0, last - first + 1, joined))
        start, width = (first - BINS) * spread.width, joined * spread.width
        return cls(spread.low, spread.high, start, width, tuple(map(int, counts)))


def histograms(spreads: Mapping[str, Spread]) -> Mapping[str, Values]:
    """The values of sites, by name; without those that have none."""
    return {site: Values.of(spread) for site, spread in spreads.items() if spread.values}


def counted(measured: Measured | None) -> Mapping[str, Values]:
    """The values of the sites of a repair on data, as far as it counted them: nothing is run for this."""
    return histograms(measured.spreads) if isinstance(measured, Fitted | TableFirst) else {}

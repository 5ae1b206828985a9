"""What data show of a tensor, for the page: its range and a histogram of few bins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...calibration.fitted import Fitted
from ...calibration.statistics.spread import BINS, Spread
from ...calibration.tables.first import TableFirst
from ...repair.measured import Measured
from .parts import Values

SHOWN = 64
"""The most bins of a histogram."""

ValuesOf = Callable[[str], Values | None]
"""The values of a site; None if they are not known."""


def no_values(site: str) -> None:
    """The values of a site without data."""


def values_of(measured: Measured | None) -> ValuesOf:
    """The values of the sites of a repair on data, as far as it counted them: nothing is run for this."""
    if not isinstance(measured, Fitted | TableFirst):
        return no_values
    counted = measured.counted

    def found(site: str) -> Values | None:
        spread = counted(site)
        return None if spread is None or not spread.values else histogram(spread)

    return found


def histogram(spread: Spread) -> Values:
    """A spread with at most `SHOWN` bins; each joins as many bins of the spread."""
    used = np.flatnonzero(spread.counts)
    first, last = int(used[0]), int(used[-1])
    joined = -(-(last - first + 1) // SHOWN)
    counts = np.add.reduceat(spread.counts[first : last + 1], np.arange(0, last - first + 1, joined))
    start, width = (first - BINS) * spread.width, joined * spread.width
    return Values(spread.low, spread.high, start, width, tuple(map(int, counts)))

"""`Spread`: the range and the histogram of one tensor's values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..histogram import Histogram

BINS = 4096
"""Bins on each side of zero. The range is less than twice the largest magnitude, so that at least half of them lie
below it."""


@dataclass(frozen=True, eq=False)
class Spread:
    """The values of one tensor on all samples.

    A bin is a power of two wide. Histograms of several tensors therefore add up without moving a count to a bin where
    it does not belong.

    Attributes:
        low: the smallest finite value, in the units of the tensor; 0 without values.
        high: the largest finite value; 0 without values.
        exponent: a bin is 2 ** exponent wide.
        counts: [2 * BINS] int64; bin BINS + k contains the values from k to k + 1 bin widths, k from -BINS to BINS - 1.
        zeros: number of values that are exactly zero; bin BINS contains them too.
        broken: number of values that are NaN or infinite, which nothing else contains.
    """

    low: float
    high: float
    exponent: int
    counts: NDArray[np.int64]
    zeros: int = 0
    broken: int = 0

    @property
    def amax(self) -> float:
        """The largest finite magnitude."""
        return max(-self.low, self.high)

    @property
    def values(self) -> int:
        """Number of finite values."""
        return int(self.counts.sum())

    @property
    def width(self) -> float:
        """The width of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def histogram(self) -> Histogram:
        """The counts of magnitudes: [BINS] int64, with [BINS + 1] float32 edges."""
        counts = self.counts[BINS:] + self.counts[BINS - 1 :: -1]
        return Histogram(counts, (np.arange(BINS + 1) * self.width).astype(np.float32))

    def energy(self) -> float:
        """The mean of the squared values, from the histogram."""
        edges = np.arange(-BINS, BINS + 1) * self.width
        cubes = np.diff(edges**3) / (3 * self.width)
        counts = self.counts.astype(np.float64)
        counts[BINS] -= self.zeros
        return float(counts @ cubes) / max(1, self.values)


def exponent_of(largest: float) -> int:
    """The exponent of the narrowest bins whose range contains a magnitude above zero."""
    return math.frexp(largest)[1] - BINS.bit_length() + 1


def merged(counts: NDArray[np.int64], doublings: int) -> NDArray[np.int64]:
    """The counts in bins 2 ** doublings times as wide, of a range as many times as wide."""
    if doublings <= 0:
        return counts
    new = np.zeros_like(counts)
    width = 1 << min(doublings, BINS.bit_length() - 1)
    half = BINS // width
    new[BINS - half : BINS + half] = counts.reshape(-1, width).sum(1)
    return new


def union(spreads: Sequence[Spread]) -> Spread:
    """The values of several tensors together.

    Args:
        spreads: at least one.
    """
    exponent = max((s.exponent for s in spreads if s.amax > 0), default=0)
    counts = sum(merged(s.counts, exponent - s.exponent if s.amax > 0 else 0) for s in spreads)
    return Spread(
        min(s.low for s in spreads),
        max(s.high for s in spreads),
        exponent,
        np.asarray(counts),
        sum(s.zeros for s in spreads),
        sum(s.broken for s in spreads),
    )

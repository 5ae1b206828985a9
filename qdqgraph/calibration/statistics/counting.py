"""`Extent` and `Counter`: the range of a tensor's values, and their histogram, added up sample by sample.

A bin is a power of two wide, and the range doubles when a value exceeds it: two bins become one, so no count is moved
to a bin where it does not belong, and histograms of two tensors add up exactly.
"""

from __future__ import annotations

import math

import numpy as np

from .spread import BINS, Spread, exponent_of, merged

CHUNK = 1 << 16
"""Values per array operation: they stay in a core's cache."""


class Extent:
    """The smallest and the largest value of one tensor.

    Attributes:
        low, high: the smallest and the largest value; infinite and reversed without values.
        broken: number of values that are NaN or infinite; they are not counted.
    """

    nbytes = 0
    """Bytes of the histogram."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.broken = 0

    @property
    def amax(self) -> float:
        """The largest magnitude; 0 without values."""
        return max(-self.low, self.high, 0.0)

    def add(self, array: np.ndarray) -> None:
        """Adds the values of a tensor of any shape, float16 or float32."""
        flat = np.ascontiguousarray(array).reshape(-1)
        if not flat.size:
            return
        low, high = float(np.minimum.reduce(flat)), float(np.maximum.reduce(flat))
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = flat[np.isfinite(flat)]
            self.broken += flat.size - finite.size
            if finite.size:
                self.add(finite)
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._count(flat, low, high)

    def _count(self, flat: np.ndarray, low: float, high: float) -> None:
        """Adds finite values between `low` and `high` to a histogram; here there is none."""


class Counter(Extent):
    """The values of one tensor.

    Attributes:
        zeros: number of values that are exactly zero.
    """

    nbytes = 2 * BINS * np.dtype(np.int64).itemsize

    def __init__(self) -> None:
        super().__init__()
        self.zeros = 0
        self.exponent: int | None = None
        """The width of a bin is 2 ** exponent; None while all values are zero."""
        self.counts = np.zeros(2 * BINS, np.int64)

    def _count(self, flat: np.ndarray, low: float, high: float) -> None:
        largest = max(-low, high)
        if largest == 0:
            self.counts[BINS] += flat.size
            self.zeros += flat.size
            return
        exponent = self._grown(exponent_of(largest))
        number = np.float32 if -120 < exponent < 120 else np.float64  # where the factor is a normal float32
        factor = number(2.0**-exponent)
        first = 0 if low >= 0 else -BINS
        size = min(CHUNK, flat.size)
        bins, short, index = np.empty(size, number), np.empty(size, np.int32), np.empty(size, np.intp)
        for start in range(0, flat.size, size):
            part = flat[start : start + size]
            place, where, wide = bins[: part.size], short[: part.size], index[: part.size]
            if low <= 0 <= high:
                self.zeros += int(np.count_nonzero(part == 0))
            np.multiply(part, factor, out=place)
            if first:
                np.floor(place, out=place)
                np.subtract(place, number(first), out=place)
            where[:] = place  # rounds toward zero; to INT32 and then to INT64 takes half the time of one step
            wide[:] = where
            found = np.bincount(wide)
            self.counts[BINS + first : BINS + first + len(found)] += found

    def _grown(self, needed: int) -> int:
        """The exponent after the range has grown to bins of at least 2 ** needed."""
        if self.exponent is None:
            self.exponent = needed
        elif needed > self.exponent:
            self.counts = merged(self.counts, needed - self.exponent)
            self.exponent = needed
        return self.exponent

    def spread(self) -> Spread:
        """What was counted so far."""
        seen = self.low <= self.high
        low, high = (self.low, self.high) if seen else (0.0, 0.0)
        return Spread(low, high, self.exponent or 0, self.counts.copy(), self.zeros, self.broken)

"""`Counter`: smallest, largest and histogram of a tensor's values, added up sample by sample.

A bin is a power of two wide, and the range doubles when a value exceeds it: two bins become one, so no count is moved
to a bin where it does not belong, and histograms of two tensors add up exactly.
"""

from __future__ import annotations

import math

import numpy as np

from .spread import BINS, Spread, exponent_of, merged

CHUNK = 1 << 16
"""Values per array operation: they stay in a core's cache."""


class Counter:
    """The values of one tensor.

    Attributes:
        low, high: the smallest and the largest value.
        broken: number of values that are NaN or infinite; they are not counted.
        zeros: number of values that are exactly zero.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.broken = self.zeros = 0
        self.exponent: int | None = None
        """The width of a bin is 2 ** exponent; None while all values are zero."""
        self.counts = np.zeros(2 * BINS, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of the histogram."""
        return self.counts.nbytes

    def add(self, array: np.ndarray) -> None:
        """Adds the values of a tensor of any shape, float16 or float32."""
        flat = np.ascontiguousarray(array).reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = flat[np.isfinite(flat)]
            self.broken += flat.size - finite.size
            if finite.size:
                self.add(finite)
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(-low, high)
        if largest == 0:
            self.counts[BINS] += flat.size
            self.zeros += flat.size
            return
        self._grow(exponent_of(largest))
        self._count(flat)

    def _grow(self, needed: int) -> None:
        if self.exponent is None:
            self.exponent = needed
        elif needed > self.exponent:
            self.counts = merged(self.counts, needed - self.exponent)
            self.exponent = needed

    def _count(self, flat: np.ndarray) -> None:
        assert self.exponent is not None
        number = np.float32 if -120 < self.exponent < 120 else np.float64  # where the factor is a normal float32
        factor = number(2.0**-self.exponent)
        size = min(CHUNK, flat.size)
        bins, index = np.empty(size, number), np.empty(size, np.intp)
        for start in range(0, flat.size, size):
            part = flat[start : start + size]
            place, where = bins[: part.size], index[: part.size]
            self.zeros += int(np.count_nonzero(part == 0))
            np.multiply(part, factor, out=place)
            np.floor(place, out=place)
            np.add(place, number(BINS), out=place)
            where[:] = place
            self.counts += np.bincount(where, minlength=2 * BINS)

    def spread(self) -> Spread:
        """What was counted so far."""
        seen = self.low <= self.high
        low, high = (self.low, self.high) if seen else (0.0, 0.0)
        return Spread(low, high, self.exponent or 0, self.counts.copy(), self.zeros, self.broken)

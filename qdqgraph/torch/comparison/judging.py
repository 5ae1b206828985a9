"""Whether two tensors differ by more than floating-point arithmetic in another order, or rounding, explains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...calibration.agreement import agreement

TIE = 256
"""How far a value may lie from the midpoint of two integers to round either way, in units of the precision of its type:
integers are below 128, and x / s and x · (1 / s) differ by one unit in the last place."""
LIMITS = {2.0**-23: (80.0, 1e-3), 2.0**-10: (40.0, 3e-2), 2.0**-7: (25.0, 2e-1)}
"""By precision (float32, float16, BF16): the least SQNR in dB, and the largest difference as a part of the largest
value, of tensors that were computed in another order from equal inputs."""


@dataclass(frozen=True)
class Difference:
    """How a tensor of the file differs from the model's.

    Attributes:
        sqnr: in dB, see `qdqgraph.calibration.agreement.Agreement`.
        largest: the largest absolute difference, in the units of the tensor; nan if a shape differs.
        explained: whether arithmetic in another order explains it.
        caveat: what is special about the tensor, such as another shape; "" otherwise.
    """

    sqnr: float
    largest: float
    explained: bool
    caveat: str = ""

    def __str__(self) -> str:
        text = "identical" if self.sqnr == math.inf and not self.largest else f"{self.sqnr:.1f} dB"
        if self.sqnr == -math.inf:
            text = "differs"
        if self.largest:
            text += f", largest difference {self.largest:.3g}"
        return text + (f" ({self.caveat})" if self.caveat else "")


def difference(expected: list[NDArray[Any]], found: list[NDArray[Any]], precision: float) -> Difference:
    """How the file's tensors differ from the model's.

    Args:
        expected: the model's, one for each batch.
        found: the file's.
        precision: of the type in which they are computed, 2^-23 for float32.
    """
    same = agreement(expected, found)
    if any(a.shape != b.shape for a, b in zip(expected, found, strict=True)):
        return Difference(same.sqnr, math.nan, False, same.caveat)
    largest = peak = 0.0
    for a, b in zip(expected, found, strict=True):
        if a.size and a.dtype.kind in "fiub":
            wide, other = a.astype(np.float64), b.astype(np.float64)
            equal = (wide == other) | (np.isnan(wide) & np.isnan(other))
            with np.errstate(invalid="ignore"):
                largest = max(largest, float(np.where(equal, 0.0, np.abs(wide - other)).max()))
            peak = max(peak, float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0)))
    least, part = limits(precision)
    explained = not largest or (same.sqnr >= least and largest <= part * peak)
    return Difference(same.sqnr if largest else math.inf, largest, explained, same.caveat)


def limits(precision: float) -> tuple[float, float]:
    """The entry of `LIMITS` for a precision."""
    return LIMITS[min(LIMITS, key=lambda known: abs(math.log2(known / precision)))]


@dataclass(frozen=True)
class Integers:
    """How the integers of a pair differ from a quantizer's.

    Attributes:
        count: how many integers.
        ties: how many differ by one, at values that lie on the midpoint of two integers but for the last bits.
        others: how many differ otherwise.
    """

    count: int
    ties: int
    others: int


def compare_integers(
    expected: NDArray[Any], found: NDArray[Any], values: NDArray[Any], scale: NDArray[np.float64], precision: float
) -> Integers:
    """How the integers of a pair differ from a quantizer's.

    Args:
        expected: the quantizer's integers, of the shape of `values`.
        found: the pair's.
        values: the quantizer's input.
        scale: broadcasts over it.
        precision: of the type of the values.
    """
    apart = expected != found
    if expected.shape != found.shape:
        return Integers(expected.size, 0, expected.size)
    if not apart.any():
        return Integers(expected.size, 0, 0)
    steps = (values.astype(np.float64) / scale)[apart]
    offset = np.abs(steps - np.floor(steps) - 0.5)
    by_one = np.abs(expected.astype(np.int64) - found.astype(np.int64))[apart] == 1
    ties = int((by_one & (offset <= min(0.5, TIE * precision))).sum())
    return Integers(expected.size, ties, int(apart.sum()) - ties)

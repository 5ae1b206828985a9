"""Exact sums of integer products in FP32: which parts of the weights to multiply separately.

A product of two integers of 8 bits has at most 16, and FP32 represents every integer up to 2 ** 24. So a sum is exact
in FP32, in any order and with or without fused multiply-add, if the magnitudes of its products add up to at most
2 ** 24.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

EXACT = 2**24
"""FP32 represents every integer up to this magnitude (IEEE 754, 24 significant bits)."""


def parts(integers: NDArray[np.float32], axes: Sequence[int], largest: int) -> list[NDArray[np.float32]]:
    """Arrays that add up to the weights, each of which gives sums that are exact in FP32.

    Args:
        integers: the integers of the weights.
        axes: the axes over which the products of one output are added up; more axes are safe too.
        largest: the largest magnitude of the integers that they are multiplied with.

    Returns:
        the weights themselves if one part suffices; else copies in which all other weights are zero.
    """
    if not integers.size:
        return [integers]
    kept = [axis for axis in range(integers.ndim) if axis not in {a % integers.ndim for a in axes}]
    order = (*kept, *(axis for axis in range(integers.ndim) if axis not in kept))
    rows = integers.transpose(order).reshape((int(np.prod([integers.shape[a] for a in kept])), -1))
    sums = np.cumsum(np.abs(rows), axis=1, dtype=np.float64)
    limit = EXACT // max(1, largest)
    if float(sums[:, -1].max()) <= limit:
        return [integers]
    found: list[NDArray[np.float32]] = []
    start, before = 0, np.zeros((len(rows), 1))
    while start < rows.shape[1]:
        reached = (sums - before).max(axis=0)
        stop = int(np.searchsorted(reached, limit, side="right"))
        part = np.zeros_like(rows)
        part[:, start:stop] = rows[:, start:stop]
        shaped = part.reshape([integers.shape[a] for a in order]).transpose(np.argsort(order))
        found.append(np.ascontiguousarray(shaped))
        start, before = stop, sums[:, stop - 1 : stop]
    return found

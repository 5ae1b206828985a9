"""entropy: the amax at which the distribution of the quantized values diverges least from the original one.

Bit-identical to pytorch-quantization 2.1.3 (`pytorch_quantization.calib.histogram._compute_amax_entropy`),
which visits each bin of each candidate in Python. Here a candidate is a few array operations, in an order with the same
roundings: sums of counts are exact integers, so they may come from one running sum; the divergence is summed over the
same elements, on the PyTorch side by the same function, scipy's `rel_entr`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..method import Method, Sums

if TYPE_CHECKING:
    from ..histogram import Histogram

START = 128
"""The first candidate: the minimum number of bins within amax. The default of pytorch-quantization; INT8 has as many
levels."""


def search(histogram: Histogram, *, percentile: float, bound: int, sums: Sums) -> float:
    """The edge at which the quantized distribution diverges least from the original one (Kullback-Leibler); of several
    the largest."""
    import numpy as np  # the command line lists the methods without numpy

    levels = bound + 1
    bins = histogram.counts.copy()
    bins[0] = bins[1]  # otherwise zeros would dominate the search
    filled = bins != 0
    total = np.concatenate(([0], np.cumsum(bins, dtype=np.int64)))
    number = np.concatenate(([0], np.cumsum(filled)))
    divergences = np.empty(len(bins) + 1 - START)
    steps = np.arange(levels + 1)
    for candidate in range(START, len(bins) + 1):
        starts = -(-steps * candidate // levels)  # the first bin of each level
        inside = number[starts[1:]] - number[starts[:-1]]
        mean = (total[starts[1:]] - total[starts[:-1]]) / np.maximum(inside, 1)
        quantized = np.repeat(mean, np.diff(starts))
        quantized[~filled[:candidate]] = 0
        reference = bins[:candidate].astype(np.int64)
        reference[-1] += total[-1] - total[candidate]
        with np.errstate(invalid="ignore"):  # candidates without values diverge by NaN, as there
            p, q = 1.0 * reference / reference.sum(keepdims=True), 1.0 * quantized / quantized.sum(keepdims=True)
            divergences[candidate - START] = sums.divergence(p, q)
    best = len(divergences) - 1 - np.argmin(divergences[::-1])
    return float(histogram.edges[best + START])


METHOD = Method("entropy", "least divergence of the quantized distribution from the original one", search, START + 1)

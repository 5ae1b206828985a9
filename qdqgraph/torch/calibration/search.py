"""The amax that a histogram of magnitudes asks for: entropy, mean squared error, percentile.

Bit for bit what pytorch-quantization 2.1.3 computes, which visits each bin of each candidate in Python. Here a
candidate is a few array operations, in the order that keeps every rounding: sums of counts are exact integers, so they
may come from one running sum; sums of real numbers are taken over the same elements by the same functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import rel_entr
from torch import Tensor

from ...errors import TorchError

START = 128
"""The first candidate: the number of bins that fall within amax at least. INT8 has as many levels."""
ROWS = 64
"""Candidates at a time: their bins together fit into a core's cache."""

Counts = NDArray[Any]


def searched(
    method: str,
    counts: Counts,
    edges: NDArray[np.float32],
    *,
    percentile: float,
    num_bits: int = 8,
    unsigned: bool = False,
) -> Tensor:
    """The amax of a histogram, a float32 scalar.

    Args:
        counts: [n] values a bin; edges: [n + 1] where the bins begin and end, from 0.

    Raises:
        TorchError: the histogram is too small to be searched.
    """
    if method == "percentile":
        return by_percentile(counts, edges, percentile)
    if len(counts) <= START:
        raise TorchError(f"a histogram of {len(counts)} bins is too small for {method}: it takes more than {START}")
    search = by_entropy if method == "entropy" else by_mse
    return search(counts, edges, num_bits, unsigned)


def by_percentile(counts: Counts, edges: NDArray[np.float32], percentile: float) -> Tensor:
    """The edge within which this much of all values lies, in percent."""
    reached = np.searchsorted(np.cumsum(counts / counts.sum()), percentile / 100)
    return torch.tensor(edges[min(int(reached), len(edges) - 1)].item())


def by_entropy(counts: Counts, edges: NDArray[np.float32], num_bits: int = 8, unsigned: bool = False) -> Tensor:
    """The edge at which the quantized distribution diverges least from the real one (Kullback-Leibler), of several the
    widest."""
    levels = 1 << (num_bits - 1 + int(unsigned))
    bins = counts.copy()
    bins[0] = bins[1]  # zeros alone would decide the search
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
        with np.errstate(invalid="ignore"):  # candidates without a single value diverge by NaN, as they do there
            p, q = 1.0 * reference / reference.sum(keepdims=True), 1.0 * quantized / quantized.sum(keepdims=True)
            divergences[candidate - START] = rel_entr(p, q).sum()
    best = len(divergences) - 1 - np.argmin(divergences[::-1])
    return torch.tensor(edges[best + START].item())


def by_mse(counts: Counts, edges: NDArray[np.float32], num_bits: int = 8, unsigned: bool = False) -> Tensor:
    """The centre of a bin at which rounding and clipping together cost least, in mean squared error."""
    weights, ends = torch.from_numpy(counts).float(), torch.from_numpy(edges).float()
    centers = (ends[1:] + ends[:-1]) / 2
    bound = torch.tensor((2.0 ** (num_bits - 1 + int(unsigned))) - 1.0)
    errors = [_errors(centers, weights, centers[i : i + ROWS], bound) for i in range(START, len(centers), ROWS)]
    best = int(np.argmin(torch.cat(errors).numpy()))
    return centers[START + best].clone()


def _errors(centers: Tensor, weights: Tensor, amax: Tensor, bound: Tensor) -> Tensor:
    """The mean squared error of each candidate; centers [n], amax [k] → [k]."""
    scale = (bound / amax)[:, None]
    tiny = amax[:, None] <= 1.0 / (1 << 24)  # the library takes such an amax for zero
    rounded = (centers * scale.masked_fill(tiny, 0.0)).round_().clamp_(max=float(bound))
    rounded.div_(scale.masked_fill(tiny, 1.0))
    return rounded.sub_(centers).square_().mul_(weights).mean(1)

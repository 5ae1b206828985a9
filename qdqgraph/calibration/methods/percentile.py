"""percentile: a given part of all values stays within amax.

Bit for bit what pytorch-quantization 2.1.3 computes (`pytorch_quantization.calib.histogram._compute_amax_percentile`).
"""

from __future__ import annotations

import numpy as np

from ...errors import TorchError
from ..histogram import Histogram
from ..method import Method

DEFAULT_PERCENTILE = 99.99
"""In percent; pytorch-quantization's default."""


def refuse_percentile(percentile: object) -> None:
    """Refuses what is not a percentage of values.

    Raises:
        TorchError: it is not a number above 0, at most 100.
    """
    if not isinstance(percentile, int | float) or not 0 < percentile <= 100:
        raise TorchError(f"percentile {percentile!r}: write a number above 0, at most 100")


def search(histogram: Histogram, *, percentile: float, bound: int) -> float:
    """Where the bin begins in which the running count reaches the percentile."""
    counts, edges = histogram.counts, histogram.edges
    reached = np.searchsorted(np.cumsum(counts / counts.sum()), percentile / 100)
    return float(edges[min(int(reached), len(edges) - 1)])


METHOD = Method("percentile", "the magnitude that the percentile of all values stays within", search)

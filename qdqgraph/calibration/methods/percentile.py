"""percentile: the amax within which a given percentage of all values stays.

Bit-identical to pytorch-quantization 2.1.3 (`pytorch_quantization.calib.histogram._compute_amax_percentile`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import CalibrationError
from ..method import Method, Sums

if TYPE_CHECKING:
    from ..histogram import Histogram

DEFAULT_PERCENTILE = 99.99
"""In percent; the default of pytorch-quantization."""


def refuse_percentile(percentile: object) -> None:
    """Checks a percentile.

    Raises:
        CalibrationError: it is not a number above 0, at most 100.
    """
    if not isinstance(percentile, int | float) or not 0 < percentile <= 100:
        raise CalibrationError(f"percentile {percentile!r}: write a number above 0, at most 100")


def search(histogram: Histogram, *, percentile: float, bound: int, sums: Sums) -> float:
    """The lower edge of the bin in which the cumulative count reaches the percentile."""
    import numpy as np  # the command line lists the methods without numpy

    counts, edges = histogram.counts, histogram.edges
    reached = np.searchsorted(np.cumsum(counts / counts.sum()), percentile / 100)
    return float(edges[min(int(reached), len(edges) - 1)])


METHOD = Method("percentile", "the magnitude within which the given percentile of all values stays", search)

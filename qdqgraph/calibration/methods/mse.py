"""mse: the amax with the smallest mean squared error of rounding and clipping.

Bit-identical to pytorch-quantization 2.1.3 (`pytorch_quantization.calib.histogram._compute_amax_mse`), which
visits each bin of each candidate in Python and needs CUDA, if torch takes the means (see `Sums`): NumPy adds up in
another order. Here 64 candidates are a few array operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..method import Method, Sums

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..histogram import Histogram

START = 128
"""The first candidate, a bin; pytorch-quantization's default."""
ROWS = 64
"""Candidates per array operation: their bins together fit into a core's cache."""
TINY = 2.0**-24
"""pytorch-quantization treats an amax up to this value as zero (`tensor_quant._tensor_quant`)."""


def search(histogram: Histogram, *, percentile: float, bound: int, sums: Sums) -> float:
    """The center of the bin with the smallest mean squared error of rounding and clipping; of several the first."""
    import numpy as np  # the command line lists the methods without numpy

    edges = histogram.edges.astype(np.float32)
    centers = (edges[1:] + edges[:-1]) / np.float32(2)
    weights = histogram.counts.astype(np.float32)
    blocks = (centers[i : i + ROWS] for i in range(START, len(centers), ROWS))
    errors = np.concatenate([sums.means(_errors(centers, weights, block, bound)) for block in blocks])
    return float(centers[START + int(np.argmin(errors))])


def _errors(
    points: NDArray[np.float32], weights: NDArray[np.float32], amax: NDArray[np.float32], bound: int
) -> NDArray[np.float32]:
    """The squared error in each bin for each candidate, times the bin's count.

    Args:
        points: [n], the centers of the bins; weights: [n], their counts.
        amax: [k] candidates.

    Returns:
        [k, n].
    """
    import numpy as np

    from ...graph.amax import inverse_scale_from_amax

    with np.errstate(divide="ignore", over="ignore"):  # for candidates that count as zero
        scale = inverse_scale_from_amax(amax, bound)[:, None]
    tiny = (amax <= TINY)[:, None]
    rounded = points * np.where(tiny, np.float32(0), scale)
    np.rint(rounded, out=rounded)
    np.minimum(rounded, np.float32(bound), out=rounded)
    rounded /= np.where(tiny, np.float32(1), scale)
    rounded -= points
    rounded *= rounded
    rounded *= weights
    return rounded


METHOD = Method("mse", "smallest mean squared error of rounding and clipping", search, START + 1)

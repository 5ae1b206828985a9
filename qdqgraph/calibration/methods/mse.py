"""mse: the amax with the smallest mean squared error of rounding and clipping.

Bit-identical to pytorch-quantization 2.1.3 (`pytorch_quantization.calib.histogram._compute_amax_mse`), which
visits each bin of each candidate in Python and needs CUDA. Here 64 candidates are a few array operations. torch sums
the errors, because NumPy sums in another order, and the last bits decide between two close candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...graph.amax import inverse_scale_from_amax
from ..histogram import Histogram
from ..method import Method

if TYPE_CHECKING:
    from torch import Tensor

START = 128
"""The first candidate, a bin; pytorch-quantization's default."""
ROWS = 64
"""Candidates per array operation: their bins together fit into a core's cache."""
TINY = 2.0**-24
"""pytorch-quantization treats an amax up to this value as zero (`tensor_quant._tensor_quant`)."""


def search(histogram: Histogram, *, percentile: float, bound: int) -> float:
    """The center of the bin with the smallest mean squared error of rounding and clipping; of several the first."""
    import torch

    edges = histogram.edges.astype(np.float32)
    centers = (edges[1:] + edges[:-1]) / np.float32(2)
    points, weights = torch.from_numpy(centers), torch.from_numpy(histogram.counts).float()
    errors = [_errors(points, weights, centers[i : i + ROWS], bound) for i in range(START, len(centers), ROWS)]
    return float(centers[START + int(np.argmin(torch.cat(errors).numpy()))])


def _errors(points: Tensor, weights: Tensor, amax: NDArray[np.float32], bound: int) -> Tensor:
    """The mean squared error of each candidate.

    Args:
        points: [n] float32, the centers of the bins; weights: [n] float32, their counts.
        amax: [k] candidates.

    Returns:
        [k] float32.
    """
    import torch

    with np.errstate(divide="ignore", over="ignore"):  # for candidates that count as zero
        scale = torch.from_numpy(inverse_scale_from_amax(amax, bound))[:, None]
    tiny = torch.from_numpy(amax <= TINY)[:, None]
    rounded = (points * scale.masked_fill(tiny, 0.0)).round_().clamp_(max=float(bound))
    rounded.div_(scale.masked_fill(tiny, 1.0))
    return rounded.sub_(points).square_().mul_(weights).mean(1)


METHOD = Method("mse", "smallest mean squared error of rounding and clipping", search, START + 1)

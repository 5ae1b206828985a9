"""`HistogramCollector`: pytorch-quantization's histogram calibrator, extended to batches that the library cannot
collect: all zeros, with NaN or infinity, or with values far larger than those of the first batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...calibration.histogram import Histogram
from ...calibration.method import Method, Sums
from ...calibration.methods.percentile import DEFAULT_PERCENTILE
from ...graph.amax import integer_bound
from ..quantizer.quantizer import HistogramCalibrator

MOST_BINS = 1 << 16
"""The most bins of a histogram. It grows by bins of the first batch's width; beyond this number, adjacent bins are
merged. If the first values are tiny and later ones are not, the library exhausts the memory."""


def _means(rows: np.ndarray) -> np.ndarray:
    return torch.from_numpy(rows).mean(1).numpy()


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    from scipy.special import rel_entr

    return float(rel_entr(p, q).sum())


LIBRARY = Sums(_means, _divergence)
"""The sums of the libraries that pytorch-quantization calls."""


class HistogramCollector(HistogramCalibrator):
    """Counts magnitudes in bins of equal width from 0; 2,048 bins for the first batch.

    Attributes:
        broken: number of batches with NaN or infinity, whose values are not counted.
    """

    def __init__(self, num_bits: int = 8, unsigned: bool = False) -> None:
        super().__init__(num_bits, None, unsigned)
        self._calib_hist: Tensor | None
        self._calib_bin_edges: Tensor | None
        self.broken = 0
        self._zeros = 0

    def collect(self, x: Tensor) -> None:
        """Adds the values of a tensor of any shape and floating-point type."""
        with torch.no_grad():
            x = x.detach().float().abs()
            largest = float(x.max()) if x.numel() else 0.0
            if not np.isfinite(largest):
                self.broken += 1
                return
            if self._calib_hist is None and largest == 0:
                self._zeros += x.numel()  # zeros define no bin width: they are added to a later batch
                return
            if self._calib_hist is not None and self._calib_bin_edges is not None:
                self._merge_bins(self._calib_hist, self._calib_bin_edges, largest)
            super().collect(x)
            if self._zeros and self._calib_hist is not None:
                self._calib_hist[0] += self._zeros
                self._zeros = 0

    def _merge_bins(self, counts: Tensor, edges: Tensor, largest: float) -> None:
        """Merges pairs of adjacent bins until the largest value needs at most `MOST_BINS`."""
        while largest / float(edges[1] - edges[0]) > MOST_BINS:
            width = 2 * (edges[1] - edges[0])
            counts = torch.cat([counts, counts.new_zeros(counts.numel() % 2)]).view(-1, 2).sum(1)
            edges = torch.arange(counts.numel() + 1, device=edges.device) * width
        self._calib_hist, self._calib_bin_edges, self._num_bins = counts, edges, counts.numel()

    @property
    def histogram(self) -> Histogram | None:
        """The collected counts, int32, and bin edges, float32; None if no batch had a value other than zero."""
        if self._calib_hist is None or self._calib_bin_edges is None:
            return None
        return Histogram(self._calib_hist.int().cpu().numpy(), self._calib_bin_edges.cpu().numpy())

    def compute_amax(self, method: Method, *, percentile: float = DEFAULT_PERCENTILE) -> Tensor | None:
        """The amax that a method finds, a float32 scalar on the CPU; None without batches, 0 if all values were zero.

        Raises:
            CalibrationError: the method does not search a histogram, or needs more bins.
        """
        if (histogram := self.histogram) is None:
            return torch.tensor(0.0) if self._zeros else None
        bound = integer_bound(self._num_bits, self._unsigned)
        return torch.tensor(method.amax(histogram, percentile=percentile, bound=bound, sums=LIBRARY))

    def clipped_energy(self, amax: float) -> float:
        """The fraction of the values' energy that an amax clips, 0 to 1."""
        histogram = self.histogram
        return 0.0 if histogram is None else histogram.clipped_energy(amax)

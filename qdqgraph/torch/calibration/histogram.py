"""`HistogramCollector`: pytorch-quantization's histogram calibrator, for batches that the library cannot collect as
well: of zeros, with NaN or infinity, or with values far larger than the first ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...calibration.histogram import Histogram
from ...calibration.method import Method
from ...calibration.methods.percentile import DEFAULT_PERCENTILE
from ...graph.amax import integer_bound
from ..quantizer.quantizer import HistogramCalibrator

MOST_BINS = 1 << 16
"""A histogram grows by bins of its first batch's width. Beyond this many, neighbours are joined: where the first values
are tiny and later ones are not, the library exhausts the memory."""


class HistogramCollector(HistogramCalibrator):
    """Collects magnitudes by bins of one width, from 0; 2,048 of them for the first batch.

    Attributes:
        broken: batches that held NaN or infinity, which are not counted.
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
                self._zeros += x.numel()  # zeros define no bin width: they are counted when other values come
                return
            if self._calib_hist is not None and self._calib_bin_edges is not None:
                self._join_bins(self._calib_hist, self._calib_bin_edges, largest)
            super().collect(x)
            if self._zeros and self._calib_hist is not None:
                self._calib_hist[0] += self._zeros
                self._zeros = 0

    def _join_bins(self, counts: Tensor, edges: Tensor, largest: float) -> None:
        """Joins pairs of neighbouring bins until the largest value needs at most `MOST_BINS`."""
        while largest / float(edges[1] - edges[0]) > MOST_BINS:
            width = 2 * (edges[1] - edges[0])
            counts = torch.cat([counts, counts.new_zeros(counts.numel() % 2)]).view(-1, 2).sum(1)
            edges = torch.arange(counts.numel() + 1, device=edges.device) * width
        self._calib_hist, self._calib_bin_edges, self._num_bins = counts, edges, counts.numel()

    @property
    def histogram(self) -> Histogram | None:
        """What was collected: counts as int32, edges as float32; None where no batch held a value other than zero."""
        if self._calib_hist is None or self._calib_bin_edges is None:
            return None
        return Histogram(self._calib_hist.int().cpu().numpy(), self._calib_bin_edges.cpu().numpy())

    def compute_amax(self, method: Method, *, percentile: float = DEFAULT_PERCENTILE) -> Tensor | None:
        """The amax that a method finds, a float32 scalar on the CPU; None without batches, 0 where all values were
        zero.

        Raises:
            TorchError: the method searches no histogram, or needs one of more bins.
        """
        if (histogram := self.histogram) is None:
            return torch.tensor(0.0) if self._zeros else None
        bound = integer_bound(self._num_bits, self._unsigned)
        return torch.tensor(method.amax(histogram, percentile=percentile, bound=bound))

    def clipped_energy(self, amax: float) -> float:
        """The part of the values' energy that an amax cuts off, 0 to 1."""
        histogram = self.histogram
        return 0.0 if histogram is None else histogram.clipped_energy(amax)

"""`Histogram`: pytorch-quantization's histogram calibrator, safe from batches that it cannot take."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..quantizer.quantizer import HistogramCalibrator
from .search import searched

MOST_BINS = 1 << 16
"""A histogram grows by bins of its first batch's width. Beyond this many, neighbours are joined: the library would go
on until memory ends where the first values are tiny and later ones are not."""


class Histogram(HistogramCalibrator):
    """Magnitudes by bins of one width, from 0; 2,048 of them for the first batch.

    Attributes:
        seen: batches collected; broken: batches that held NaN or infinity, which are left out.
    """

    def __init__(self, num_bits: int = 8, unsigned: bool = False) -> None:
        super().__init__(num_bits, None, unsigned)
        self._calib_hist: Tensor | None
        self._calib_bin_edges: Tensor | None
        self.seen = self.broken = 0
        self._zeros = 0

    def collect(self, x: Tensor) -> None:
        """Adds the values of a tensor of any shape."""
        self.seen += 1
        with torch.no_grad():
            x = x.detach().float().abs()
            largest = float(x.max()) if x.numel() else 0.0
            if not np.isfinite(largest):
                self.broken += 1
                return
            if self._calib_hist is None and largest == 0:
                self._zeros += x.numel()  # they have no width to make bins of: they wait for values that have
                return
            if self._calib_hist is not None and self._calib_bin_edges is not None:
                self._join(self._calib_hist, self._calib_bin_edges, largest)
            super().collect(x)
            if self._zeros and self._calib_hist is not None:
                self._calib_hist[0] += self._zeros
                self._zeros = 0

    def _join(self, counts: Tensor, edges: Tensor, largest: float) -> None:
        """Joins neighbouring bins, two by two, until a value fits into a histogram of bearable size."""
        while largest / float(edges[1] - edges[0]) > MOST_BINS:
            width = 2 * (edges[1] - edges[0])
            counts = torch.cat([counts, counts.new_zeros(counts.numel() % 2)]).view(-1, 2).sum(1)
            edges = torch.arange(counts.numel() + 1, device=edges.device) * width
        self._calib_hist, self._calib_bin_edges, self._num_bins = counts, edges, counts.numel()

    @property
    def counts(self) -> NDArray[np.int32]:
        """[n] values a bin."""
        assert self._calib_hist is not None
        found: NDArray[np.int32] = self._calib_hist.int().cpu().numpy()
        return found

    @property
    def edges(self) -> NDArray[np.float32]:
        """[n + 1] where the bins begin and end."""
        assert self._calib_bin_edges is not None
        found: NDArray[np.float32] = self._calib_bin_edges.cpu().numpy()
        return found

    def compute_amax(self, method: str, *, percentile: float = 99.99) -> Tensor | None:
        """The amax, a float32 scalar; None where no batch was seen, 0 where all were zeros."""
        if self._calib_hist is None:
            return torch.tensor(0.0) if self._zeros else None
        return searched(
            method,
            self.counts,
            self.edges,
            percentile=percentile,
            num_bits=self._num_bits,
            unsigned=self._unsigned,
        )

    def clipped(self, amax: float) -> float:
        """The part of the values' energy that an amax cuts off, 0 to 1: what lies beyond it, squared and summed."""
        if self._calib_hist is None:
            return 0.0
        centers, counts = (self.edges[1:] + self.edges[:-1]) / np.float64(2), self.counts
        beyond = np.maximum(centers - amax, 0)
        return float((counts * beyond**2).sum() / (counts * centers**2).sum())

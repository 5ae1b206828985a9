"""`Histogram`: how many values of each magnitude a tensor had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Histogram:
    """Magnitudes by bins of one width, from 0.

    Attributes:
        counts: [n] values in each bin, integers.
        edges: [n + 1] where the bins begin and end, in the units of the tensor.
    """

    counts: NDArray[Any]
    edges: NDArray[np.float32]

    def clipped_energy(self, amax: float) -> float:
        """The part of the values' energy that an amax cuts off, 0 to 1: what lies beyond it, squared and summed."""
        centers = (self.edges[1:] + self.edges[:-1]) / np.float64(2)
        beyond = np.maximum(centers - amax, 0)
        return float((self.counts * beyond**2).sum() / (self.counts * centers**2).sum())

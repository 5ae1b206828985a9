"""`Histogram`: counts of a tensor's values by magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of magnitudes in bins of equal width, from 0.

    Attributes:
        counts: [n] number of values in each bin, integers.
        edges: [n + 1] boundaries of the bins, in the units of the tensor.
    """

    counts: NDArray[Any]
    edges: NDArray[np.float32]

    def clipped_energy(self, amax: float) -> float:
        """The fraction of the values' energy that an amax clips, 0 to 1: the squared sum of the excess beyond amax."""
        centers = (self.edges[1:] + self.edges[:-1]) / np.float64(2)
        beyond = np.maximum(centers - amax, 0)
        return float((self.counts * beyond**2).sum() / (self.counts * centers**2).sum())

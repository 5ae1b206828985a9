"""`Method`: one way to choose an amax from calibration data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import CalibrationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .histogram import Histogram


@dataclass(frozen=True)
class Sums:
    """The operations whose result depends on the library that computes them, in the last bits.

    Two candidates can be so close that these bits decide. qdqgraph.torch replaces the operations by those that
    pytorch-quantization calls, and so finds the same amax bit for bit.

    Attributes:
        means: the mean of each row: [k, n] float32 → [k] float32.
        divergence: the Kullback-Leibler divergence of two distributions, [n] and [n] float64 that add up to 1 each.
    """

    means: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    divergence: Callable[[NDArray[Any], NDArray[Any]], float]


def _means(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np  # the command line lists the methods without numpy

    return np.asarray(rows.mean(axis=1))


def _divergence(p: NDArray[Any], q: NDArray[Any]) -> float:
    """Infinite where q is zero and p is not, NaN where one is NaN."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(p == 0, np.where(np.isnan(q), q, 0.0), p * np.log(p / q)).sum())


NUMPY = Sums(_means, _divergence)
"""NumPy's sums: the same result on one machine, whatever else is installed."""


class Search(Protocol):
    """Finds the amax of a histogram."""

    def __call__(self, histogram: Histogram, *, percentile: float, bound: int, sums: Sums) -> float:
        """The amax, in the units of the histogram's edges.

        Args:
            histogram: with at least `Method.least_bins` bins.
            percentile: the share of values that stay within amax, in percent, for methods that use it.
            bound: the integer that amax becomes: 127 for INT8.
            sums: computes means and divergences.
        """


@dataclass(frozen=True)
class Method:
    """A calibration method; each file of the folder `methods` defines one, with NumPy alone.

    Attributes:
        name: the name in `--method`, `--calibrate`, configurations and saved states.
        summary: which amax it chooses, as a phrase for lists of methods.
        search: finds the amax of a histogram, one for the whole tensor. None: amax is the largest magnitude, no
            histogram is collected, and each channel may have its own.
        least_bins: the minimum number of bins that it can search.
    """

    name: str
    summary: str
    search: Search | None = None
    least_bins: int = 1

    def amax(self, histogram: Histogram, *, percentile: float, bound: int, sums: Sums = NUMPY) -> float:
        """The amax of a histogram, in the units of its edges; see `Search` for the arguments.

        Raises:
            CalibrationError: the method does not search histograms, or this one has too few bins.
        """
        if self.search is None:
            raise CalibrationError(f"method {self.name!r} uses the largest magnitude and searches no histogram")
        if len(histogram.counts) < self.least_bins:
            raise CalibrationError(
                f"a histogram of {len(histogram.counts)} bins is too small for {self.name}: "
                f"it needs {self.least_bins} or more"
            )
        return self.search(histogram, percentile=percentile, bound=bound, sums=sums)

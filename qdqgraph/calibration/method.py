"""`Method`: one way to choose a quantizer's amax from calibration data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..errors import TorchError
from .histogram import Histogram


class Search(Protocol):
    """Finds the amax of a histogram."""

    def __call__(self, histogram: Histogram, *, percentile: float, bound: int) -> float:
        """The amax, in the units of the histogram's edges.

        Args:
            histogram: with at least `Method.least_bins` bins.
            percentile: the share of values that stay within amax, in percent, for methods that use it.
            bound: the integer that amax becomes: 127 for INT8.
        """


@dataclass(frozen=True)
class Method:
    """A calibration method; each file of the folder `methods` defines one, and imports neither torch nor scipy before
    it searches.

    Attributes:
        name: the name in `--method`, configurations and saved states.
        summary: which amax it chooses, as a phrase for lists of methods.
        search: finds the amax of a histogram, one for the whole tensor. None: amax is the largest magnitude, no
            histogram is collected, and each channel may have its own.
        least_bins: the minimum number of bins that it can search.
    """

    name: str
    summary: str
    search: Search | None = None
    least_bins: int = 1

    def amax(self, histogram: Histogram, *, percentile: float, bound: int) -> float:
        """The amax of a histogram, in the units of its edges; see `Search` for the arguments.

        Raises:
            TorchError: the method does not search histograms, or this one has too few bins.
        """
        if self.search is None:
            raise TorchError(f"method {self.name!r} uses the largest magnitude and searches no histogram")
        if len(histogram.counts) < self.least_bins:
            raise TorchError(
                f"a histogram of {len(histogram.counts)} bins is too small for {self.name}: "
                f"it needs {self.least_bins} or more"
            )
        return self.search(histogram, percentile=percentile, bound=bound)

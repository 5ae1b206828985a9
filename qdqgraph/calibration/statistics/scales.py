"""The error of rounding to INT8 at a scale, and the scale that a calibration method chooses for sites together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...graph.amax import INT8_BOUND, scale_from_amax
from ..histogram import Histogram
from ..methods import find_method, methods
from ..methods.percentile import DEFAULT_PERCENTILE, refuse_percentile
from .spread import BINS, Spread, union

AUTO = "auto"
"""The method with the least error on the samples."""
LEAST_RATIO = 2.0**-12
"""The smallest scale that `mse` tries, relative to the scale without clipping: one bin of the histogram."""
STEPS = 33
"""Scales that one round of the search tries."""
ROUNDS = 3
"""Rounds of the search; each divides the distance between two scales by 16."""


@dataclass(frozen=True)
class Choice:
    """A scale that a method chose for sites together.

    Attributes:
        scale: ONNX's scale of symmetric INT8, amax / 127, a float32 value in the units of the tensors; 0 if all values
            are zero.
        method: the method that chose it.
    """

    scale: float
    method: str

    @property
    def amax(self) -> float:
        """The largest magnitude that the scale represents."""
        return self.scale * INT8_BOUND


def error(spread: Spread, scale: float) -> float:
    """The mean squared error of QuantizeLinear and DequantizeLinear in INT8 with zero-point 0 (-128 to 127).

    Args:
        spread: the values of a tensor.
        scale: ONNX's scale, above 0, in the units of the tensor.

    Returns:
        in squared units of the tensor; 0 without values.
    """
    return float(errors(spread, np.array([scale]))[0])


def errors(spread: Spread, scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """`error` for several scales.

    The values of a bin are taken as evenly spread over it, and the error is integrated over the bin: a bin narrower
    than a step contributes the error at its place, a wide one scale ** 2 / 12. Exact zeros have no error. Within 5 %
    of the error of the values themselves; too large by less than a factor of 2 where nearly all of them round to zero
    (measured on normal, heavy-tailed and one-sided values).

    Args:
        spread: the values of a tensor.
        scales: [k] ONNX's scales, above 0.

    Returns:
        [k] float64.
    """
    total = spread.values
    if not total:
        return np.zeros(len(scales))
    counts = spread.counts.astype(np.float64)
    counts[BINS] -= spread.zeros
    if not counts.any():
        return np.zeros(len(scales))
    edges = np.arange(-BINS, BINS + 1, dtype=np.float64) * spread.width
    step = np.arange(-INT8_BOUND - 1, INT8_BOUND + 1)
    limits = np.clip((step[1:] - 0.5) * scales[:, None], edges[0], edges[-1])
    moments = [_between(counts, edges, limits, order) for order in (0, 1, 2)]
    values = step * scales[:, None]
    squares = moments[2] - 2 * values * moments[1] + values**2 * moments[0]
    return np.asarray(np.maximum(squares.sum(1), 0) / total)


def _between(
    counts: NDArray[np.float64], edges: NDArray[np.float64], limits: NDArray[np.float64], order: int
) -> NDArray[np.float64]:
    """The integral of x ** order over the values below the first limit, between two neighbours, and above the last.

    Args:
        counts: [n] values of each bin, evenly spread over it.
        edges: [n + 1] boundaries of the bins, equally far apart.
        limits: [k, m] increasing.

    Returns:
        [k, m + 1].
    """
    powers = edges ** (order + 1) / ((order + 1) * (edges[1] - edges[0]))
    whole = np.concatenate(([0.0], np.cumsum(counts * np.diff(powers))))
    inside = np.minimum(np.searchsorted(edges, limits, "right") - 1, len(counts) - 1)
    part = limits ** (order + 1) / ((order + 1) * (edges[1] - edges[0])) - powers[inside]
    below = whole[inside] + counts[inside] * part
    ends = np.zeros((len(limits), 1)), np.full((len(limits), 1), whole[-1])
    return np.diff(np.concatenate((ends[0], below, ends[1]), 1), axis=1)


def best_scale(spreads: Sequence[Spread], method: str = AUTO, *, percentile: float = DEFAULT_PERCENTILE) -> Choice:
    """The scale that a method chooses for the union of sites.

    - max: the largest magnitude of all, without clipping.
    - mse: the least sum of the sites' errors (see `error`), each a mean over its values.
    - percentile, entropy and other methods: on the sum of the histograms.
    - auto: mse, which minimizes what is compared; max where it has the same error.

    Args:
        spreads: the values of each site, at least one.
        method: a name of `calibration.methods`, or "auto".
        percentile: for the method percentile, in percent.

    Raises:
        CalibrationError: there is no such method, or the percentile is not above 0 and at most 100.
    """
    if method != AUTO:
        find_method(method)
    refuse_percentile(percentile)
    largest = max(spread.amax for spread in spreads)
    if largest == 0:
        return Choice(0.0, method)
    if method == AUTO:
        found = [best_scale(spreads, name, percentile=percentile) for name in ("max", "mse")]
        return min(found, key=lambda choice: sum(error(s, choice.scale) for s in spreads))
    if method == "max":
        return widest(largest)
    if method == "mse":
        amax = _least_squares(spreads, largest)
    else:
        found_amax = methods()[method].amax(_filled(union(spreads)), percentile=percentile, bound=INT8_BOUND)
        amax = min(found_amax, largest) or largest
    return chosen(method, scale_from_amax(amax))


def widest(largest: float) -> Choice:
    """The choice of the method max for a largest magnitude; the scale 0 for 0."""
    return chosen("max", scale_from_amax(largest))


def chosen(method: str, scale: float) -> Choice:
    """A choice with its scale rounded to float32."""
    return Choice(float(np.float32(scale)), method)


def _least_squares(spreads: Sequence[Spread], largest: float) -> float:
    """The amax, at most `largest`, with the least sum of errors; of several the largest."""
    top = float(scale_from_amax(largest))
    low, high = np.log2(LEAST_RATIO), 0.0
    best = 0.0
    for _ in range(ROUNDS):
        ratios = np.linspace(high, low, STEPS)
        total = np.sum([errors(s, top * 2.0**ratios) for s in spreads], axis=0)
        best = float(ratios[int(np.argmin(total))])
        reach = abs(high - low) / (STEPS - 1)
        low, high = best - reach, min(0.0, best + reach)
    return largest * 2.0**best


def _filled(spread: Spread) -> Histogram:
    """The histogram of magnitudes up to the largest one, because methods take its end as the range; 1,025 to 2,048
    bins, because the time of entropy grows with their square."""
    histogram = spread.histogram
    counts, edges = histogram.counts.reshape(-1, 2).sum(1), histogram.edges[::2]
    end = int(np.flatnonzero(counts)[-1]) + 1
    return Histogram(counts[:end], edges[: end + 1])

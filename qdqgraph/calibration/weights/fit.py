"""`fitted_weights`: weight pairs whose scales a calibration method would choose otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ...graph.graph import Graph
from ...graph.pair import Pair
from ...proposals.proposal import SetPair
from ...proposals.weights import rescale
from .known import Known, known_weights
from .scales import fitting, least_squares

METHODS = {"max": fitting, "mse": least_squares, "auto": least_squares}
"""What each calibration method means for weights. The others are defined on the histogram of many values, which a
channel of weights has not: percentile and entropy would clip some of nine weights."""
LEARNED = 0.01
"""The share of integers that are not the nearest ones from which on they count as learned."""


def fitted_weights(graph: Graph, reference: Mapping[str, np.ndarray], method: str) -> Iterator[tuple[Pair, SetPair]]:
    """The weight pairs with known values whose scales a method would choose otherwise, and the pairs as it wants them:
    per output channel where the layer has such an axis, else as many scales as before.

    Stored integers that are not the nearest ones of a reference were learned (AdaRound), and stay.

    Args:
        graph: the Q/DQ graph.
        reference: values before quantization, by the output of the DequantizeLinear of stored integers.
        method: the calibration method.
    """
    choose = METHODS.get(method)
    for known in known_weights(graph, reference) if choose is not None else ():
        assert choose is not None
        pair, own = known.pair, known.quantization
        reals = known.reals
        if _learned(graph, known, reals):
            continue
        axis = known.axis if own.scale.size == 1 else own.axis % reals.ndim
        scale = choose(reals, axis, own.scale)
        if own.scale.size == 1 and (scale == own.scale.reshape(())).all():
            axis, scale = None, own.scale
        scale = scale.reshape(own.scale.shape) if scale.size == own.scale.size else scale
        edit = rescale(graph, pair, scale, axis, reals)
        if edit is not None and not _same(graph, known, edit):
            yield pair, edit


def _learned(graph: Graph, known: Known, reals: np.ndarray) -> bool:
    stored = None if known.pair.quantize is not None else graph.array(known.pair.tensor)
    if stored is None:
        return False
    return bool((stored != known.quantization.quantize(reals)).mean() > LEARNED)


def _same(graph: Graph, known: Known, edit: SetPair) -> bool:
    """Whether a pair has these scales and integers."""
    own, scale = known.quantization, edit.scale.array
    if own.scale.shape != scale.shape or not np.array_equal(own.scale, scale):
        return False
    stored = graph.array(known.pair.tensor)
    return edit.integers is None or (stored is not None and np.array_equal(edit.integers.array, stored))

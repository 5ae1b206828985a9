"""The float values of weights in FP8, and of weights with blocked scales."""

from __future__ import annotations

import numpy as np

from ..graph.graph import Graph
from ..graph.pair import Pair
from ..graph.quantization import Quantization

FP8_BOUND = 448.0
"""The largest value of FP8 E4M3."""


def fp8_values(pair: Pair, array: np.ndarray | None) -> np.ndarray | None:
    """Dequantized FP8 weights, each value times its scale; None if they are unknown. A QuantizeLinear saturates."""
    if array is None or pair.scale is None or pair.zero_point is None or not (pair.agrees and (pair.scale > 0).all()):
        return None
    quantization = Quantization(pair.scale.astype(np.float32), np.zeros((), np.int8), pair.channels)
    if pair.scale.ndim > 1 or not quantization.fits(array):
        return None
    scale = quantization.along(quantization.scale, array.ndim)
    with np.errstate(all="ignore"):  # a scale may be zero, subnormal or not finite
        if pair.quantize is not None:
            array = np.clip(array.astype(np.float32) / scale, -FP8_BOUND, FP8_BOUND).astype(pair.zero_point.dtype)
        return np.asarray(array.astype(np.float32) * scale).astype(pair.scale.dtype)


def blocked_values(graph: Graph, pair: Pair) -> np.ndarray | None:
    """Dequantized integers of the file whose scales are blocked along one axis; None if they do not fit."""
    array, scale, zero = graph.array(pair.tensor), pair.scale, pair.zero_point
    axis, size = pair.channels, int(pair.nodes[0].attrs["block_size"])
    if array is None or scale is None or zero is None or pair.quantize is not None or size < 1:
        return None
    if scale.ndim != array.ndim or not -array.ndim <= axis < array.ndim or zero.shape not in ((), (1,), scale.shape):
        return None
    size = min(size, array.shape[axis])
    whole, both = tuple(slice(n) for n in array.shape), (scale, np.broadcast_to(zero, scale.shape))
    factor, offset = (np.repeat(a.astype(np.float32), size, axis)[whole] for a in both)
    if factor.shape != array.shape:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray((array.astype(np.float32) - offset) * factor).astype(scale.dtype)

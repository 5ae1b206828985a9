"""`Known`: a pair of INT8 weights whose values before quantization are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...graph.graph import Graph, key
from ...graph.pair import PER_CHANNEL, Pair, pairs
from ...graph.quantization import Quantization
from ...proposals.weights import channel_axis, is_locked


@dataclass(frozen=True, eq=False)
class Known:
    """A weight pair and its values before quantization.

    Attributes:
        pair: the pair; symmetric INT8, and its parameters may change.
        quantization: its scales and zero-points.
        reals: the values before quantization, finite, in the shape of the constant.
        axis: the axis of the output channels; None if what reads the weights has no such axis.
    """

    pair: Pair
    quantization: Quantization
    reals: np.ndarray
    axis: int | None


def known_weights(graph: Graph, reference: Mapping[str, np.ndarray]) -> Iterator[Known]:
    """The weight pairs whose values before quantization are known: the file has them upstream of a QuantizeLinear, or a
    reference.

    Args:
        graph: the Q/DQ graph.
        reference: values before quantization, by the output of the DequantizeLinear of stored integers.
    """
    for pair in pairs(graph):
        own = Quantization.of(pair)
        if pair.kind != "weight" or own is None or is_locked(pair) or not pair.symmetric:
            continue
        if own.zero_point.dtype != np.int8:
            continue
        if pair.quantize is not None:
            reals = graph.array(pair.tensor)
        else:
            reals = next((reference[key(d)] for d in pair.dequantizes if key(d) in reference), None)
        if reals is None or not reals.size or not own.fits(reals) or not np.isfinite(reals).all():
            continue
        yield Known(pair, own, reals, channel_axis(graph, pair) if graph.opset >= PER_CHANNEL else None)

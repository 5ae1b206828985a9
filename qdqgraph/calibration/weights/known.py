"""`Known`: a pair of INT8 weights whose values before quantization are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

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
        shape: the shape of the constant.
        axis: the axis of the output channels; None if what reads the weights has no such axis.
        read: gives the values.
    """

    pair: Pair
    quantization: Quantization
    shape: tuple[int, ...]
    axis: int | None
    read: Callable[[], np.ndarray | None]

    @property
    def reals(self) -> np.ndarray:
        """The values before quantization, finite, in the shape of the constant. They are read each time, so that the
        weights of many layers are not in memory together."""
        found = self.read()
        assert found is not None, "`known_weights` has read them"
        return found


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
        read: Callable[[], np.ndarray | None] = partial(graph.array, pair.tensor)
        if pair.quantize is None:
            name = next((key(d) for d in pair.dequantizes if key(d) in reference), None)
            if name is None:
                continue
            read = partial(reference.__getitem__, name)
        reals = read()
        if reals is None or not reals.size or not own.fits(reals) or not np.isfinite(reals).all():
            continue
        shape = reals.shape
        del reals
        yield Known(pair, own, shape, channel_axis(graph, pair) if graph.opset >= PER_CHANNEL else None, read)

"""`Stored`: how a graph stores the weights and the bias of a layer, and the same with other factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...graph.graph import Graph, key
from ...graph.pair import PER_CHANNEL, Pair, pairs
from ...graph.quantization import Quantization
from ...model.corrected import Place, stored
from ...proposals.proposal import Constant, SetPair
from ...proposals.weights import channel_axis, is_locked, pair_readers, rescale, symmetric_scale
from .links import Layer


@dataclass(frozen=True, eq=False)
class Stored:
    """A layer in a graph.

    Attributes:
        layer: the layer.
        reals: its weights before quantization; None if the file stores integers and they are unknown.
        place: the node input that reads the float constant; None if the file stores integers.
        pair: the pair of the weights; None if they are float.
        axis: the axis of the output channels, for scales per channel; None if the pair can have one scale only.
        bias: the node input with the bias and its values; None if the layer has none.
        movable: the outputs can have factors: there is no bias, or its values are stored as floats per channel.
    """

    layer: Layer
    reals: NDArray[np.floating] | None
    place: Place | None
    pair: Pair | None
    axis: int | None
    bias: tuple[Place, NDArray[np.floating]] | None
    movable: bool

    @classmethod
    def of(cls, graph: Graph, layer: Layer, reference: Mapping[str, np.ndarray]) -> Stored | None:
        """How a graph stores a layer; None if the constants are shared, computed, or of another kind than symmetric
        INT8 and float.

        Args:
            graph: a graph with or without pairs; its node has the key of the layer.
            layer: the layer.
            reference: values before quantization, by the output of the DequantizeLinear of stored integers.
        """
        node = graph.producer(layer.key)
        if node is None or node.op != layer.node.op or key(node) != layer.key:
            return None
        bias, movable = _bias(graph, layer)
        place: Place = (layer.key, 1)
        pair = pairs(graph).made(node.inputs[1].name)
        if pair is None:
            array = _floats(graph, place, layer)
            return None if array is None else cls(layer, array, place, None, None, bias, movable)
        own = Quantization.of(pair)
        if own is None or is_locked(pair) or not pair.symmetric or own.zero_point.dtype != np.int8:
            return None
        if len(pair_readers(graph, pair)) != 1 or len(pair.dequantizes) != 1 or graph.shape(pair.tensor) is None:
            return None
        axis = channel_axis(graph, pair) if graph.opset >= PER_CHANNEL else None
        if own.scale.size > 1:
            axis = own.axis % len(layer.product.shape)
        if pair.quantize is None:
            reals = reference.get(key(pair.dequantizes[0]))
            reals = None if reals is None or reals.shape != layer.product.shape else reals
            return cls(layer, reals, None, pair, axis, bias, movable)
        place = (key(pair.quantize), 0)
        array = _floats(graph, place, layer)
        return None if array is None else cls(layer, array, place, pair, axis, bias, movable)

    def takes(self, into: NDArray[np.float64], out: NDArray[np.float64]) -> bool:
        """Whether the layer can have these factors, and its float constants keep every bit: no value becomes too large
        or too small for its type."""
        multiplier = self.layer.multiplier(into, out)
        if self.reals is None and self._along(multiplier) is None:
            return False
        if self.bias is not None and not _exact(self.bias[1], out):
            return False
        own = None if self.pair is None else self.pair.scale
        along = self._along(multiplier)
        if own is not None and along is not None and not _exact(np.broadcast_to(own.reshape(-1), along.shape), along):
            return False
        return self.reals is None or _exact(self.reals, multiplier)

    def scaled(
        self, graph: Graph, into: NDArray[np.float64], out: NDArray[np.float64]
    ) -> tuple[dict[Place, np.ndarray], SetPair | None, np.ndarray | None]:
        """The constants with factors: new floats by node input, the new parameters of the pair, and the new weights
        before quantization.

        Where each output channel has one factor and a scale of its own, the scale has it, and the integers stay.
        """
        multiplier = self.layer.multiplier(into, out)
        constants: dict[Place, np.ndarray] = {}
        if self.bias is not None:
            place, array = self.bias
            constants[place] = np.asarray(array * out, array.dtype)
        reals = None if self.reals is None else np.asarray(self.reals * multiplier, self.reals.dtype)
        if self.place is not None and reals is not None:
            constants[self.place] = reals
        return constants, self._pair(graph, multiplier, reals), reals

    def _pair(self, graph: Graph, multiplier: NDArray[np.float64], reals: np.ndarray | None) -> SetPair | None:
        pair = self.pair
        if pair is None or pair.scale is None:
            return None
        along = self._along(multiplier)
        if along is None:
            assert reals is not None, "`takes` refuses it"
            return rescale(graph, pair, symmetric_scale(reals, self.axis, pair.scale.dtype), self.axis, reals)
        scale = np.asarray(pair.scale.reshape(-1) * along, pair.scale.dtype)
        zero_point = np.zeros(scale.shape, np.int8)
        nodes = tuple(key(node) for node in pair.nodes)
        return SetPair(nodes, Constant.of(scale), Constant.of(zero_point), self.axis)

    def _along(self, multiplier: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The factor of each output channel, [C] along the axis of the scales; None if a channel has several."""
        if self.axis is None:
            return None
        moved = np.moveaxis(multiplier, self.axis, 0).reshape(multiplier.shape[self.axis], -1)
        return np.array(moved[:, 0]) if (moved == moved[:, :1]).all() else None


def _floats(graph: Graph, place: Place, layer: Layer) -> NDArray[np.floating] | None:
    found = stored(graph.model, place, graph.folder)
    if found is None or found.dtype.kind != "f" or found.shape != layer.product.shape or not np.isfinite(found).all():
        return None
    return found


def _bias(graph: Graph, layer: Layer) -> tuple[tuple[Place, NDArray[np.floating]] | None, bool]:
    """The bias, and whether it can have factors."""
    place: Place = (layer.key, 2)
    node = graph.node(layer.key)
    if len(node.inputs) < 3 or not node.inputs[2].name:
        return None, True
    found = stored(graph.model, place, graph.folder)
    fits = found is not None and found.dtype.kind == "f" and found.size == layer.outputs == found.shape[-1]
    return (None, False) if found is None or not fits else ((place, found), True)


def _exact(array: np.ndarray, factor: NDArray[np.float64]) -> bool:
    """Whether the array times powers of two has the same digits."""
    with np.errstate(all="ignore"):
        scaled = np.asarray(array * factor, array.dtype)
        return bool(np.isfinite(scaled).all() and np.array_equal(np.asarray(scaled / factor, array.dtype), array))

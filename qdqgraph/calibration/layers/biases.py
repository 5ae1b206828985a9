"""Bias correction: takes the mean error of each output channel of a layer off its bias.

Rounding weights and activations shifts the mean of a layer's output, above all in depthwise convolutions; the bias can
take the shift back. Source: M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
ICCV 2019, https://arxiv.org/abs/1906.04721, section 4.2, here with samples instead of BatchNorm's statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ...graph.graph import Graph, input_name, key
from ...model.protos import is_standard
from ...model.runtime import Feeds
from ...operators import WEIGHTED
from ..halves import Half
from ..statistics.floating import FloatModel
from ..statistics.running import DEFAULT_MEMORY
from .errors import Shift, shifts
from .twin import layers, twin

EXACT = 1e-12
"""The share of a layer's squared error up to which the rest is that of FP32 arithmetic."""


@dataclass(frozen=True, eq=False)
class Correction:
    """A bias that lowers the error of its layer on samples that it was not computed from.

    Attributes:
        layer: the key of the layer.
        place: the node input that reads the bias: of the layer, or of the Add after a MatMul.
        bias: the corrected bias in the type and shape of the old one; [C] if there was none.
        before, after: the SQNR of the layer alone on the held-back samples, in dB.
    """

    layer: str
    place: tuple[str, int]
    bias: NDArray[np.floating]
    before: float
    after: float


def bias_corrections(
    graph: Graph, network: FloatModel, feeds: Feeds, provider: str = "cpu", *, memory: int = DEFAULT_MEMORY
) -> tuple[int, tuple[Correction, ...]]:
    """The number of layers with weights whose bias can be corrected, and the corrections, in file order.

    The shift of a channel is its mean error from the float network's values, rounded as the graph rounds them, on the
    given half of the samples (`calibration.halves`), as far as it is larger than its spread over the samples; the other
    half judges it. A layer without a bias gets one.

    Args:
        graph: the Q/DQ graph.
        network: its float network.
        feeds: the samples, two or more.
        provider: "cpu" or "cuda".
        memory: the limit for the peak resident memory of the process, in bytes.

    Raises:
        CalibrationError: there are too few samples.
        ModelError: onnxruntime is missing, or cannot run the network.
    """
    chosen = {key(node): bias for node in layers(graph) if (bias := _bias(graph, node)) is not None}
    given, held = Half.both(feeds)
    if not chosen:
        return 0, ()
    axes = {name: -1 if bias.layer.op in ("Gemm", "MatMul") else 1 for name, bias in chosen.items()}
    both = twin(graph, network, [bias.layer for bias in chosen.values()], channels=axes)
    first, second = (shifts(both, half, network.folder, provider, memory=memory) for half in (given, held))
    found = [_correction(chosen[n], [s[n] for s in first], [s[n] for s in second]) for n in first[0]]
    return len(found), tuple(c for c in found if c is not None)


@dataclass(frozen=True, eq=False)
class _Bias:
    """The bias of a layer: the node that adds it, its input, the values or None if the layer has none, their type."""

    layer: gs.Node
    node: gs.Node
    index: int
    values: np.ndarray | None
    dtype: np.dtype[Any]


def _bias(graph: Graph, node: gs.Node) -> _Bias | None:
    """The bias of a layer; None if it cannot be replaced: it is computed, or the layer has no weights."""
    if node.op not in WEIGHTED or not is_standard(node) or not _has_weights(graph, node):
        return None
    if node.op == "MatMul":
        return _added(graph, node)
    if node.op == "Gemm" and node.attrs.get("beta", 1.0) != 1.0:
        return None
    return _stored(graph, node, node, 2)


def _has_weights(graph: Graph, node: gs.Node) -> bool:
    """Whether the second operand is constant; of a MatMul with output channels along the last axis."""
    name = input_name(node, 1)
    return graph.is_constant(name) and (node.op != "MatMul" or len(graph.shape(name) or ()) == 2)


def _added(graph: Graph, node: gs.Node) -> _Bias | None:
    """The constant of the Add that alone reads the result of a MatMul."""
    readers = graph.readers(key(node))
    if len(readers) != 1 or key(node) in graph.outputs or readers[0].node.op != "Add" or readers[0].index < 0:
        return None
    add, index = readers[0].node, 1 - readers[0].index
    return _stored(graph, node, add, index)


def _stored(graph: Graph, layer: gs.Node, node: gs.Node, index: int) -> _Bias | None:
    """The bias at an input of a node; None if it is not a stored floating-point vector along the channels."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(graph.dtype(key(node)) or TensorProto.FLOAT))
    if not input_name(node, index):
        return _Bias(layer, node, index, None, dtype) if dtype.kind == "f" else None
    name = graph.proto(node).input[index]
    producer, values = graph.producer(name), graph.array(name)
    stored = name in graph.initializers or (producer is not None and producer.op == "Constant")
    if not stored or name in graph.inputs or values is None or values.dtype.kind != "f" or not values.shape:
        return None
    return _Bias(layer, node, index, values, values.dtype) if values.size == values.shape[-1] else None


def _correction(bias: _Bias, given: Sequence[Shift], held: Sequence[Shift]) -> Correction | None:
    shift = _shrunk(np.stack([s.mean for s in given]))
    old = np.zeros(shift.shape, bias.dtype) if bias.values is None else bias.values
    if old.size != shift.size or not np.isfinite(shift).all():
        return None
    new = (old.astype(np.float64) - shift.reshape(old.shape)).astype(old.dtype)
    moved = (old.astype(np.float64) - new).reshape(-1)
    # mean((d - m)²) = mean(d²) - 2·m·mean(d) + m², for each channel
    before = float(np.mean([s.square for s in held]))
    change = float(np.mean(moved**2 - 2 * moved * np.mean([s.mean for s in held], axis=0)))
    if not change < 0:
        return None
    after = max(before + change, EXACT * before)
    sqnr = _db(sum(s.signal for s in held), sum(s.noise for s in held))
    return Correction(key(bias.layer), (key(bias.node), bias.index), new, sqnr, sqnr + _db(before, after))


def _shrunk(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each channel over the samples, less what their spread explains: m · max(0, 1 - variance / (n · m²)).

    A mean within its standard error is that of chance, and subtracting it adds noise. Source: the positive-part
    estimator of W. James and C. Stein, Estimation with Quadratic Loss, 1961, for one channel.

    Args:
        means: [samples, C].
    """
    mean, count = means.mean(axis=0), len(means)
    if count == 1:
        return np.asarray(mean)
    unsure = means.var(axis=0, ddof=1) / count
    return np.asarray(mean * np.clip(1 - unsure / np.maximum(mean**2, np.finfo(np.float64).tiny), 0, 1))


def _db(numerator: float, denominator: float) -> float:
    return 10 * math.log10(numerator / denominator) if numerator > 0 and denominator > 0 else math.nan

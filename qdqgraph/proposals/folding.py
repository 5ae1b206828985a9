"""Folding: a constant that the graph computes, as integers or floats that the file stores."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from ..graph.constants import constants
from ..graph.graph import Graph, Reader, key
from ..graph.pair import PER_CHANNEL, Pair, pairs
from ..graph.quantization import Quantization
from ..operators import JOINS, MOVES_WEIGHTS, SAME_CONSTANT, WEIGHTED
from .nodes import make_constant, make_dequantize, replace
from .proposal import Graft
from .upstream import Upstream
from .weights import channel_axis, dequantized_weights, is_locked, reader_axis

STORED = MOVES_WEIGHTS | SAME_CONSTANT | JOINS | {"Constant"}
"""Operators before the QuantizeLinear of weights that TensorRT folds when it builds; measured on TensorRT-RTX 1.7.1,
which computes Gather, a norm, a MatMul or a second QuantizeLinear again in every run."""


def store_floats(graph: Graph, pair: Pair) -> tuple[Graft, ...]:
    """The DequantizeLinears of a constant pair as float initializers, bit for bit; empty if `dequantized_weights` is
    unknown."""
    values = dequantized_weights(graph, pair)
    return () if values is None else tuple(replace([d], [make_constant(key(d), values)]) for d in pair.dequantizes)


def fold_integers(graph: Graph, pair: Pair) -> Graft | None:
    """The integers of computed weights as an initializer: in place of the QuantizeLinear, or of an operator between
    stored integers and their DequantizeLinear.

    None if nothing computes them, or TensorRT folds every operator upstream of the QuantizeLinear; if it does not
    accept the scales (other rules first fit these to the float values); if the integers are a graph output or cannot be
    computed; or if an initializer upstream is also a graph input that a caller may set (IR version 4 and later). The
    integers are exact if `Graph.is_reproducible` is true of `pair.tensor`.
    """
    integers = pair.tensor if pair.quantize is None else key(pair.quantize)
    if pair.kind != "weight" or graph.once(Upstream).of(integers).settable:
        return None
    if pair.quantize is None:
        producer = graph.producer(integers)
        return None if producer is None or producer.op in ("Constant", "Clip") else _stored(graph, producer)
    computed = any(node.op not in STORED for node in constants(graph).path(pair.tensor))
    return _stored(graph, pair.quantize) if computed and _accepted(graph, pair) else None


def _stored(graph: Graph, node: gs.Node) -> Graft | None:
    """The outputs of a node as initializers; None if one is a graph output, or cannot be computed."""
    arrays = {t.name: graph.array(t.name) for t in node.outputs if t.name}
    if any(array is None or name in graph.outputs for name, array in arrays.items()):
        return None
    return replace([node], [make_constant(name, array) for name, array in arrays.items() if array is not None])


def _accepted(graph: Graph, pair: Pair) -> bool:
    """Whether TensorRT accepts the scales: positive, symmetric INT8, along the output channels."""
    own, shape = Quantization.of(pair), graph.shape(pair.tensor)
    if own is None or shape is None or pair.types[1] != "int8" or not pair.symmetric or is_locked(pair):
        return False
    if not (np.isfinite(own.scale) & (own.scale > 0)).all():
        return False
    return pair.per_tensor or channel_axis(graph, pair) in (None, pair.channels % max(len(shape), 1))


def fold_moved(graph: Graph, reader: Reader) -> Graft | None:
    """Dequantized weights that are moved or joined before an INT8 layer reads them, as one initializer of integers with
    its DequantizeLinear.

    None if the reader is no INT8 layer, TensorRT keeps its INT8 kernel as it is, or no INT8 integers with one scale for
    each output channel have the same values, bit for bit.
    """
    node, tensor = reader.node, reader.node.inputs[reader.index].name
    producer = graph.producer(tensor)
    if node.op not in WEIGHTED or reader.index not in (0, 1) or producer is None or not graph.is_constant(tensor):
        return None
    origin = graph.once(Upstream).of(tensor)
    if not origin.dequantized or origin.kept or origin.settable or len(producer.outputs) > 1:
        return None
    if pairs(graph).made(node.inputs[1 - reader.index].name) is None:
        return None
    found = _moved(graph, tensor, reader)
    if found is None:
        return None
    name = f"{tensor}_int8"
    integers, scale, axis = found
    own = make_dequantize(tensor, name, scale, np.zeros((), np.int8), axis)
    return replace([producer], [make_constant(name, integers), *own])


def _moved(graph: Graph, tensor: str, reader: Reader) -> tuple[np.ndarray, np.ndarray, int] | None:
    """INT8 integers, their scale and its axis, which have exactly the values of the tensor; None if there are none."""
    values, scales = graph.array(tensor), graph.once(Upstream).steps(tensor)
    if values is None or scales is None or values.shape != scales.shape or not np.isfinite(values).all():
        return None
    scales = np.abs(scales)  # a Neg changes their sign
    axis = reader_axis(graph, reader, values.ndim) if graph.opset >= PER_CHANNEL else None
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    scale = np.asarray(scales.max(axis=others))  # a Pad adds zeros to the scales, too
    scale = np.where(scale > 0, scale, scale.max()).astype(values.dtype)
    if not np.isfinite(scale).all() or not (scale > 0).all():
        return None
    own = Quantization(scale, np.zeros((), np.int8), axis or 0)
    integers = own.quantize(values)
    return (integers, scale, axis or 0) if own.dequantize(integers).tobytes() == values.tobytes() else None

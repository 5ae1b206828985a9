"""Weights and their channels: the float values of a weight pair, and the pair with another scale or zero-point."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from ..graph.amax import INT8_BOUND, amax_from_scale, scale_from_amax
from ..graph.channels import groups_of
from ..graph.graph import Graph, Reader, key, label
from ..graph.pair import PER_CHANNEL, Pair, bits_lost
from ..graph.quantization import Quantization
from ..operators import BINARY, UNARY
from .clipping import clip_nodes, clips_negatives
from .narrow import blocked_values, fp8_values
from .nodes import attributes, make_constant, make_dequantize, make_node, replace
from .proposal import Constant, Graft, SetPair

FOUR_BITS = {"int4": (-8, 7), "uint4": (0, 15)}
"""Smallest and largest integer of the 4-bit types, by name."""
ALONG = BINARY | {"Identity", "Cast"}
"""Operators whose result has the channels of the constant that they read."""
INT4 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.INT4)


def pair_readers(graph: Graph, pair: Pair) -> tuple[Reader, ...]:
    """The node inputs that read the dequantized tensor."""
    return tuple(r for d in pair.dequantizes for r in graph.readers(key(d)))


def channel_axis(graph: Graph, pair: Pair) -> int | None:
    """The axis of the output channels of a weight pair; None if its readers have none, or disagree.

    Conv: 0. Gemm: 0 with transB, else 1. MatMul with 2-D weights: 1, or 0 if the weights are the left operand.
    ConvTranspose: as the target defines, without groups only (with groups, no axis has the size of the output
    channels). A Transpose, Cast or element-wise operator with another constant in between is seen through. Source:
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """
    shape = graph.shape(pair.tensor)
    axes = {reader_axis(graph, r, len(shape)) for r in pair_readers(graph, pair)} if shape is not None else set()
    return axes.pop() if len(axes) == 1 else None


def reader_axis(graph: Graph, reader: Reader, rank: int) -> int | None:
    """The axis of the output channels of weights of that rank at one node input, as in `channel_axis`; None if the node
    has none there."""
    found, seen = set[int | None](), set[tuple[str, tuple[int, ...]]]()
    pending = [(reader, tuple(range(rank)))]
    while pending:
        at, axes = pending.pop()
        made = key(at.node)
        if at.node.op == "Transpose" and at.index == 0:
            order = list(at.node.attrs.get("perm", range(len(axes))[::-1]))
            if sorted(order) != list(range(len(axes))):  # a file that is no valid ONNX
                found.add(None)
                continue
            axes = tuple(axes[i] for i in order)
        elif at.node.op not in ALONG or not graph.is_constant(made) or not _same_shape(graph, at):
            axis = _own_axis(graph, at, rank)
            found.add(None if axis is None or axis >= len(axes) else axes[axis])
            continue
        if (made, axes) not in seen:
            seen.add((made, axes))
            readers = graph.readers(made)
            pending += [(r, axes) for r in readers]
            found |= set() if readers else {None}
    return found.pop() if len(found) == 1 else None


def _own_axis(graph: Graph, reader: Reader, rank: int) -> int | None:
    node: gs.Node = reader.node
    if node.op == "MatMul" and reader.index == 0:
        return 0 if rank == 2 else None
    if reader.index != 1:
        return None
    if node.op == "Conv":
        return 0
    if node.op == "Gemm":
        return 0 if node.attrs.get("transB", 0) else 1
    if node.op == "MatMul":
        return rank - 1 if rank == 2 else None
    if node.op == "ConvTranspose":
        return graph.target.deconvolution_axis if groups_of(node) == 1 else None
    return None


def _same_shape(graph: Graph, reader: Reader) -> bool:
    shape = graph.shape(key(reader.node))
    return reader.index >= 0 and shape is not None and shape == graph.shape(reader.node.inputs[reader.index].name)


def real_weights(graph: Graph, pair: Pair) -> np.ndarray | None:
    """The float values of a weight pair: those before its QuantizeLinear, or its dequantized integers; None if the file
    does not contain them."""
    return dequantized_weights(graph, pair) if pair.quantize is None else graph.array(pair.tensor)


def dequantized_weights(graph: Graph, pair: Pair) -> np.ndarray | None:
    """What the DequantizeLinears of a constant pair produce; None as for `real_weights`, or if its nodes disagree."""
    if pair.blocked:
        return blocked_values(graph, pair)
    if (steps := _four_bits(graph, pair)) is not None and pair.scale is not None:
        return Quantization(pair.scale, np.zeros((), np.int8), pair.channels).dequantize(steps)
    array, quantization = graph.array(pair.tensor), Quantization.of(pair)
    if pair.types[1] == "float8_e4m3fn":
        return fp8_values(pair, array)
    if array is None or quantization is None or not quantization.fits(array) or not pair.agrees:
        return None
    return quantization.dequantize(array if pair.quantize is None else quantization.quantize(array))


def rescale(
    graph: Graph, pair: Pair, scale: np.ndarray, axis: int | None, reals: np.ndarray | None = None
) -> SetPair | None:
    """The pair with another symmetric INT8 scale; integer weights are quantized again from their exact float values.
    None if these cannot be read.

    Args:
        scale: shape [] or [C], of the pair's scale type.
        axis: the channel axis; None for one scale.
        reals: the values before quantization of weights that the file stores as integers; the dequantized integers by
            default.
    """
    zero_point = np.zeros(scale.shape, np.int8)
    integers = None
    if pair.quantize is None:
        reals = real_weights(graph, pair) if reals is None else reals
        if reals is None:
            return None
        integers = Constant.of(np.maximum(Quantization(scale, zero_point, axis or 0).quantize(reals), -INT8_BOUND))
    nodes = tuple(key(n) for n in pair.nodes)
    return SetPair(nodes, Constant.of(scale), Constant.of(zero_point), axis, integers)


def refit(graph: Graph, pair: Pair, axis: int | None) -> SetPair | None:
    """A weight pair with the symmetric scales that fit its float values, per channel of the axis; None if the file does
    not contain them, they are not finite, or the pair is locked. A channel of zeros gets the scale of the widest
    channel.

    If the file stores integers, a channel within 127 steps of the zero-point keeps its scale, and so its values bit for
    bit; only the others are rounded again.
    """
    reals = real_weights(graph, pair)
    if pair.scale is None or is_locked(pair) or reals is None or not reals.size or not np.isfinite(reals).all():
        return None
    kind = pair.scale.dtype
    scale = symmetric_scale(reals, axis, kind)
    if pair.quantize is None and (pair.scale.size == 1 or (pair.scale.ndim == 1 and _axis_of(pair, reals) == axis)):
        own = pair.scale.astype(np.float64).reshape(() if pair.scale.size == 1 else -1)
        usable = np.isfinite(own) & (own >= least_scale(kind))
        steps = _amax(reals, axis) / np.where(usable, own, 1)
        scale = np.where(usable & (steps < INT8_BOUND + 0.5), own, scale).astype(kind)
    return rescale(graph, pair, scale, axis)


def stored_integers(pair: Pair, integers: np.ndarray) -> SetPair | Graft:
    """The pair with these integers in the file, of its integer type; its scales stay."""
    if pair.quantize is not None:
        return replace([pair.quantize], [make_constant(key(pair.quantize), integers)])
    assert pair.scale is not None and pair.zero_point is not None
    parameters = Constant.of(pair.scale), Constant.of(pair.zero_point)
    return SetPair(tuple(key(n) for n in pair.nodes), *parameters, pair.axis, Constant.of(integers))


def symmetric_scale(reals: np.ndarray, axis: int | None, kind: np.dtype[Any] | None = None) -> np.ndarray:
    """The symmetric INT8 scales that fit float values without clipping.

    A channel of zeros gets the scale of the widest channel.

    Args:
        reals: finite values of any shape.
        axis: the channel axis; None for one scale.
        kind: the type of the scales; that of the values by default.

    Returns:
        shape [] or [C].
    """
    kind = kind or reals.dtype
    amax = _amax(reals, axis)
    floor = amax_from_scale(least_scale(kind))
    amax = np.where(amax >= floor, amax, amax.max() if amax.max() >= floor else amax_from_scale(1.0))
    return np.asarray(scale_from_amax(amax), kind)


def least_scale(kind: np.dtype[Any]) -> float:
    """The smallest usable scale of a type: a GPU flushes a denormal scale to zero, and would refuse the pair."""
    smallest = np.nextafter(kind.type(0), kind.type(1))  # np.finfo does not know bfloat16
    return max(float(smallest), float(np.finfo(np.float32).smallest_normal))


def _amax(reals: np.ndarray, axis: int | None) -> np.ndarray:
    others = None if axis is None else tuple(i for i in range(reals.ndim) if i != axis)
    ends = (np.asarray(reals.max(axis=others), np.float64), np.asarray(reals.min(axis=others), np.float64))
    return np.maximum(*map(np.abs, ends))  # without a copy of the weights


def _axis_of(pair: Pair, array: np.ndarray) -> int:
    axis = pair.channels
    return axis + array.ndim if axis < 0 else axis


def uint8_to_int8(graph: Graph, pair: Pair) -> SetPair | None:
    """A UINT8 pair with zero-point 128 as the bit-identical INT8 pair with zero-point 0; None for others."""
    if pair.zero_point is None or pair.zero_point.dtype != np.uint8 or not (pair.zero_point == 128).all():
        return None
    if pair.scale is None or is_locked(pair):
        return None
    integers = None
    if pair.quantize is None:
        array = graph.array(pair.tensor)
        if array is None:
            return None
        integers = Constant.of((array.astype(np.int16) - 128).astype(np.int8))
    nodes, zero_point = tuple(key(n) for n in pair.nodes), np.zeros(pair.zero_point.shape, np.int8)
    return SetPair(nodes, Constant.of(pair.scale), Constant.of(zero_point), pair.axis, integers)


def uint4_to_int4(graph: Graph, pair: Pair) -> SetPair | None:
    """UINT4 weights with zero-point 8 as bit-identical INT4 with zero-point 0, blocked or not; None for others."""
    zero, array = pair.zero_point, graph.array(pair.tensor)
    if zero is None or str(zero.dtype) != "uint4" or array is None or pair.scale is None or pair.quantize is not None:
        return None
    if not (zero.astype(np.int8) == 8).all():
        return None
    integers = (array.astype(np.int8) - 8).astype(INT4)
    nodes = tuple(key(n) for n in pair.nodes)
    return SetPair(
        nodes, Constant.of(pair.scale), Constant.of(np.zeros(zero.shape, INT4)), pair.axis, Constant.of(integers)
    )


def int4_to_int8(graph: Graph, pair: Pair) -> Graft | None:
    """4-bit weights as bit-identical INT8 weights; None if they are blocked, cannot be read, or are not 4-bit."""
    steps, axis = _four_bits(graph, pair), pair.channels
    if steps is None or pair.scale is None:
        return None
    name = f"{pair.tensor}_int8"
    nodes = [make_constant(name, steps)]
    for dequantize in pair.dequantizes:
        nodes += make_dequantize(key(dequantize), name, pair.scale, np.zeros((), np.int8), axis)
    return replace(pair.nodes, nodes)


def _four_bits(graph: Graph, pair: Pair) -> np.ndarray | None:
    """The distance of each 4-bit weight from its zero-point in steps of the scale, INT8; None as in `int4_to_int8`."""
    array, zero, scale = graph.array(pair.tensor), pair.zero_point, pair.scale
    ends = None if zero is None else FOUR_BITS.get(str(zero.dtype))
    if array is None or zero is None or scale is None or ends is None or not pair.agrees or pair.kind == "activation":
        return None
    if scale.ndim > 1 or pair.blocked:
        return None
    quantization = Quantization(scale, zero.astype(np.int8), pair.channels)
    if not quantization.fits(array):
        return None
    integers = array.astype(np.int8) if pair.quantize is None else np.clip(quantization.quantize(array), *ends)
    return np.asarray(integers - quantization.along(quantization.zero_point, array.ndim), np.int8)


def is_locked(pair: Pair) -> bool:
    """Whether the parameters cannot change: the pair is blocked, its nodes disagree, or its integers have another
    reader or producer."""
    return pair.blocked or not pair.agrees or (pair.pinned and (pair.kind == "activation" or pair.quantize is not None))


def why_locked(graph: Graph, pair: Pair) -> str:
    """Why a pair's parameters cannot change, or its values cannot be read, for a message; empty if no obstacle is
    known."""
    if pair.blocked:
        return "its scales are blocked (block_size)"
    if Quantization.of(pair) is None:
        return "its scale and zero-point are not constant, differ in size, or are not of a whole-byte integer type"
    if not pair.agrees:
        return "its nodes disagree (QDQ408)"
    integers = pair.tensor if pair.quantize is None else key(pair.quantize)
    if pair.kind == "activation" and pair.quantize is None:
        return f"its integers '{integers}' do not come from a QuantizeLinear"
    if integers in graph.outputs:
        return f"its integers '{integers}' are a graph output"
    others = [r for r in graph.readers(integers) if r.node.op != "DequantizeLinear" or r.index != 0]
    if others:
        where = "a subgraph of " if others[0].index < 0 else ""
        return f"{where}{label(others[0].node)} also reads its integers '{integers}'"
    if pair.kind != "activation" and real_weights(graph, pair) is None:
        return f"the values of '{pair.tensor}' cannot be read"
    return ""


def make_symmetric(graph: Graph, pair: Pair) -> tuple[SetPair | Graft, float] | None:
    """The pair as symmetric INT8 with the same range, and the bits lost; None if that is impossible: parameters that
    are not constant or disagree, integers with another reader or producer.

    An activation keeps its range: scale = largest magnitude / 127. onnxruntime removes a Relu or Clip before an
    asymmetric pair, and the range then starts at zero; so for such a range a Relu or Clip is added again, unless the
    tensor cannot be negative. Weights get the range of their float values, per output channel if the operator that
    reads them allows it, which loses less. Source for the Relu: quantize_static removes one before an asymmetric pair
    (https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/python/tools/quantization/operators/activation.py).
    """
    quantization = Quantization.of(pair)
    if quantization is None or pair.scale is None or is_locked(pair):
        return None
    if not (np.isfinite(pair.scale) & (pair.scale > 0)).all():
        return None
    if pair.kind == "activation" and quantization.scale.size * quantization.zero_point.size > 1:
        return None
    edit: SetPair | Graft | None
    if pair.kind != "activation":
        edit = refit(graph, pair, channel_axis(graph, pair) if graph.opset >= PER_CHANNEL else None)
        scale = None if edit is None else edit.scale.array
    else:
        scale = np.asarray(scale_from_amax(quantization.amax().max()), pair.scale.dtype)
        edit = _after_relu(graph, pair, scale) if clips_negatives(graph, pair) else rescale(graph, pair, scale, None)
    if edit is None or scale is None:
        return None
    return edit, max(bits_lost(float(scale.max()), float(pair.scale.max())), 0.0)


def _after_relu(graph: Graph, pair: Pair, scale: np.ndarray) -> Graft:
    """The pair with another scale, and a Relu before it.

    The upper end of its range may be that of a Clip, as inside a HardSwish. If only element-wise operators read the
    pair, it is inside a block and may be removed later; a Clip to the whole range then replaces the Relu.
    """
    assert pair.quantize is not None
    real, own, zero = (f"{pair.tensor}_{name}" for name in ("relu", "scale", "int8"))
    kept = attributes(graph, pair.quantize, "axis", "output_dtype")
    readers = pair_readers(graph, pair)
    inside = bool(readers) and all(r.node.op in UNARY | BINARY for r in readers)
    clip = clip_nodes(graph, pair, real) if inside else None
    nodes = [
        make_constant(own, scale),
        make_constant(zero, np.zeros((), np.int8)),
        *(clip or [make_node("Relu", [pair.tensor], real)]),
        make_node("QuantizeLinear", [real, own, zero], key(pair.quantize), kept),
    ]
    for dequantize in pair.dequantizes:
        kept = attributes(graph, dequantize, "axis")
        nodes.append(make_node("DequantizeLinear", [key(pair.quantize), own, zero], key(dequantize), kept))
    return replace(pair.nodes, nodes)

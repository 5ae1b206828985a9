"""QDQ405."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    PER_CHANNEL,
    Constant,
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Node,
    Pair,
    Quantization,
    Reader,
    Rule,
    Safety,
    SetPair,
    Severity,
    attributes,
    channel_axis,
    insert_before,
    key,
    label,
    make_constant,
    make_dequantize,
    make_node,
    pair_readers,
    pairs,
    reader_axis,
    real_weights,
    refit,
    replace,
)


class AxisWrong(Rule):
    """The axis of per-channel weights is missing or wrong.

    Why: TensorRT requires weight scales along the output channels: axis 0 for Conv; for Gemm axis 0 with transB, axis 1
    without. If the attribute is missing, ONNX defaults to 1 and TensorRT's parser to 0. For ConvTranspose the required
    axis differs between versions (0 from 8.4 to 10.1, 1 since 10.2), so the target decides. The repair dequantizes the
    weights and requantizes them along the required axis; if a Conv and a ConvTranspose share them, one gets a copy. onnxruntime also writes per-channel scales into opsets before
    13, which do not define them; the repair raises the opset. Model Optimizer writes axis 0 for blocked INT4 weights
    whose blocks run along axis 1; if only one axis fits the scales, the repair sets it.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/onnxOpImporters.cpp,
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """

    code, name, safety = "QDQ405", "axis-wrong", Safety.LOSSY
    by_target = True
    severity = Severity.ERROR

    examples = [
        Example(
            "axis 1 on the weights of a convolution",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {64, 16, 16, 8}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 1> (w, sw, zw)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {127, 63, 127, 127}, float[2] sw = {0.0050393702, 0.0012598425}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "no axis: the only one that fits the number of scales is set",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,3] y)
            <float s = {0.1}, int8 z = {0}, int8[2,3] w = {64, 32, 16, 8, 4, 2}, float[3] sw = {0.01, 0.02, 0.03}, int8[3] zw = {0, 0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, zw)
                y = Gemm (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2] x) => (float[1,3] y)
            <float s = {0.1}, int8 z = {0}, int8[2,3] w = {64, 32, 16, 8, 4, 2}, float[3] sw = {0.01, 0.02, 0.03}, int8[3] zw = {0, 0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 1> (w, sw, zw)
                y = Gemm (d, k)
            }""",
        ),
        Example(
            "a Conv and a ConvTranspose that share weights: the ConvTranspose gets a copy along its own output channels",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] v)
            <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {64, 32, 16, 8}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                y = Conv (d, k)
                v = ConvTranspose (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] v)
            <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {64, 32, 16, 8}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0},
             int8[2,2,1,1] u = {127, 127, 63, 63}, float[2] su = {0.0050393702, 0.0025196851}, int8[2] zu = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                y = Conv (d, k)
                c = DequantizeLinear <axis = 1> (u, su, zu)
                v = ConvTranspose (d, c)
            }""",
        ),
        Counterexample(
            "axis 0 on the weights of a convolution",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 0> (w, sw, zw)
                y = Conv (d, k)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            if (axis := _blocks(graph, pair)) is not None:
                yield self.finding(
                    pair.nodes[0],
                    f"the blocks of the weights '{pair.tensor}' run along axis {axis}, not {pair.axis}",
                    help=f"set axis = {axis}",
                    edits=[_along(graph, node, axis) for node in pair.dequantizes],
                )
            if pair.kind == "weight" and pair.scale is not None and pair.scale.ndim == 1 and pair.scale.size > 1:
                wanted = channel_axis(graph, pair)
                fault = _fault(graph, pair, wanted)
                if not fault:
                    yield from self._shared(graph, pair) if wanted is None else ()
                    continue
                if graph.opset < PER_CHANNEL:
                    help = f"raise the opset to {PER_CHANNEL} (`fix` does)"
                    yield self.finding(pair.nodes[0], f"the weights '{pair.tensor}' {fault}", help=help)
                    continue
                edit, exact = _repair(graph, pair)
                help = "requantize the weights along the axis of the output channels"
                if pair.scale.size not in (graph.shape(pair.tensor) or (pair.scale.size,)):
                    help = "export the weights again: no axis has so many channels"
                yield self.finding(
                    pair.nodes[0],
                    f"the weights '{pair.tensor}' {fault}",
                    help="set the axis of the output channels" if exact else help,
                    edits=() if edit is None else (edit,),
                    safety=Safety.EXACT if exact else None,
                )

    def _shared(self, graph: Graph, pair: Pair) -> Iterator[Finding]:
        """Yields the finding about weights whose readers have their output channels along different axes."""
        shape = graph.shape(pair.tensor)
        if shape is None:
            return
        axes = {r.key: (r, reader_axis(graph, r, len(shape))) for r in pair_readers(graph, pair)}
        others = [(r, axis) for r, axis in axes.values() if axis not in (None, pair.channels % len(shape))]
        for axis in sorted({axis for _, axis in others if axis is not None}):
            mine = [r for r, other in others if other == axis]
            edits = [edit for r in mine if (edit := _copy(graph, pair, r, axis)) is not None]
            yield self.finding(
                pair.nodes[0],
                f"the weights '{pair.tensor}' are quantized along axis {pair.axis}; "
                f"{label(mine[0].node)}, which also reads them, requires axis {axis}",
                help=f"give it a copy of the weights, requantized along axis {axis}",
                edits=edits if len(edits) == len(mine) else (),
                place=key(mine[0].node),
            )


def _copy(graph: Graph, pair: Pair, reader: Reader, axis: int) -> Graft | None:
    """Returns the weights for one reader, with the scales that fit along another axis."""
    fitted, reals = refit(graph, pair, axis), real_weights(graph, pair)
    if fitted is None or reals is None or not pair.symmetric or pair.types[1] != "int8":
        return None
    scale, name = fitted.scale.array, f"{pair.tensor}_axis{axis}"
    integers = Quantization(scale, np.zeros((), np.int8), axis).quantize(reals) if pair.quantize else fitted.integers
    array = integers if isinstance(integers, np.ndarray) else None if integers is None else integers.array
    if array is None:
        return None
    own = make_dequantize(f"{name}_dequantized", name, scale, np.zeros((), np.int8), axis)
    return insert_before(reader.key, [make_constant(name, array), *own])


def _blocks(graph: Graph, pair: Pair) -> int | None:
    """Returns the only axis along which blocked weight scales fit the shape; None if the file already names it."""
    shape, scale = graph.shape(pair.tensor), pair.scale
    size = int(pair.nodes[0].attrs.get("block_size", 0))
    if not size or shape is None or None in shape or scale is None or scale.ndim != len(shape) or pair.quantize:
        return None
    dims = [d or 0 for d in shape]
    fits = [
        i
        for i, d in enumerate(dims)
        if scale.shape == (*dims[:i], -(-d // size), *dims[i + 1 :]) and pair.kind == "weight"
    ]
    named = pair.channels % len(dims)
    return fits[0] if len(fits) == 1 and fits[0] != named else None


def _along(graph: Graph, node: Node, axis: int) -> Graft:
    inputs = [t.name for t in node.inputs]
    return replace([node], [make_node(node.op, inputs, key(node), attributes(graph, node, "axis"), axis=axis)])


def _fault(graph: Graph, pair: Pair, wanted: int | None) -> str:
    size = 0 if pair.scale is None else pair.scale.size
    if graph.opset < PER_CHANNEL:
        return f"have {size} scales; opset {graph.opset} has no per-channel scales"
    if pair.axis is None:
        return f"have {size} scales and no axis: ONNX defaults to 1, TensorRT to 0"
    shape, axis = graph.shape(pair.tensor), pair.axis
    if shape is not None:
        axis += len(shape) if axis < 0 else 0
        if not 0 <= axis < len(shape) or shape[axis] not in (size, None):
            return f"have shape {list(shape)} but {size} scales along axis {pair.axis}"
    return "" if wanted in (None, axis) else f"are quantized along axis {pair.axis}; TensorRT requires axis {wanted}"


def _repair(graph: Graph, pair: Pair) -> tuple[SetPair | None, bool]:
    """Returns the pair along the required axis, and whether the dequantized weights stay the same."""
    wanted, shape, quantization = channel_axis(graph, pair), graph.shape(pair.tensor), Quantization.of(pair)
    if wanted is None or shape is None or quantization is None or not pair.symmetric or pair.types[1] != "int8":
        return None, False
    rank = len(shape)
    if wanted >= rank:
        return None, False
    fits = -rank <= quantization.axis < rank and shape[quantization.axis] == quantization.scale.size
    if quantization.axis == wanted if fits else shape[wanted] == quantization.scale.size:
        nodes, zeros = tuple(key(n) for n in pair.nodes), Constant.of(np.zeros(quantization.scale.size, np.int8))
        return SetPair(nodes, Constant.of(quantization.scale), zeros, wanted), fits
    return (refit(graph, pair, wanted) if fits else None), False

"""QDQ415."""

from collections.abc import Iterator

import numpy as np

from qdqgraph.rulekit import (
    Counterexample,
    Example,
    Finding,
    Graft,
    Graph,
    Pair,
    Quantization,
    Rule,
    Safety,
    Severity,
    attributes,
    bits_lost,
    key,
    make_constant,
    make_node,
    pairs,
    replace,
    scale_from_amax,
)

LIMIT = "TensorRT's Q and DQ accept only INT8 with zero-point 0"


class IntegersAtTheEdge(Rule):
    """A graph input or output has an integer type that TensorRT's Q and DQ do not support.

    Why: TensorRT supports UINT8 inputs and outputs, but only a Cast may read or produce them; its Q and DQ support only
    INT8 with zero-point 0. Converters from TensorFlow Lite write such networks. The repair replaces the Q or DQ by its
    arithmetic: the type of the input or output stays, and so do its integers. An input gets a symmetric pair
    downstream. If other nodes dequantize the integers of an output, they get a separate pair.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md, measured on TensorRT-RTX 1.7.1
    """

    code, name, safety = "QDQ415", "integers-at-the-edge", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "a UINT8 graph input",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (uint8[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.5}, uint8 z = {128}, int8[1,1,1,1] w = {64}, float sw = {0.01}, int8 zw = {0}>
            {
                d = DequantizeLinear (x, s, z)
                k = DequantizeLinear (w, sw, zw)
                y = Conv (d, k)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (uint8[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.5}, float z = {128}, int8 zero = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
            {
                c = Cast <to = 1> (x)
                b = Sub (c, z)
                r = Mul (b, s)
                q = QuantizeLinear (r, s, zero)
                d = DequantizeLinear (q, s, zero)
                k = DequantizeLinear (w, sw, zero)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "a UINT8 graph output",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (uint8[1,1,4,4] y)
            <float s = {0.5}, uint8 z = {3}>
            {
                a = Relu (x)
                y = QuantizeLinear (a, s, z)
            }""",
            after="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (uint8[1,1,4,4] y)
            <float s = {0.5}, float z = {3}, float lo = {0}, float hi = {255}>
            {
                a = Relu (x)
                b = Div (a, s)
                c = Round (b)
                d = Add (c, z)
                e = Clip (d, lo, hi)
                y = Cast <to = 2> (e)
            }""",
        ),
        Counterexample(
            "INT8 with zero-point 0",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (int8[1,1,4,4] x) => (int8[1,1,4,4] y)
            <float s = {0.5}, int8 z = {0}>
            {
                d = DequantizeLinear (x, s, z)
                a = Relu (d)
                y = QuantizeLinear (a, s, z)
            }""",
        ),
    ]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            quantization = Quantization.of(pair)
            taken = quantization is None or (
                quantization.zero_point.dtype == np.int8 and not quantization.zero_point.any()
            )
            if quantization is not None and quantization.zero_point.dtype.itemsize > 1:
                continue
            if (
                quantization is None
                or taken
                or quantization.scale.size > 1
                or not (quantization.scale > 0).all()
                or graph.opset < 11
            ):
                continue
            if pair.quantize is None and pair.tensor in graph.inputs:
                scale = _symmetric(quantization)
                yield self.finding(
                    pair.nodes[0],
                    f"a DequantizeLinear reads the graph input '{pair.tensor}', {_type(quantization)}; {LIMIT}",
                    help="replace it by its arithmetic and a symmetric pair downstream",
                    bits_lost=max(bits_lost(float(scale), pair.value), 0.0),
                    edits=[_input(pair, quantization, scale)],
                )
            elif pair.quantize is not None and key(pair.quantize) in graph.outputs and _alone(graph, pair):
                yield self.finding(
                    pair.nodes[0],
                    f"a QuantizeLinear produces the graph output '{key(pair.quantize)}', "
                    f"{_type(quantization)}; {LIMIT}",
                    help="replace it by its arithmetic",
                    edits=[_output(graph, pair, quantization)],
                    safety=Safety.EXACT,
                )


def _type(quantization: Quantization) -> str:
    return f"{str(quantization.zero_point.dtype).upper()} with zero-point {quantization.zero_point.reshape(-1)[0]}"


def _symmetric(quantization: Quantization) -> np.ndarray:
    """Returns the scale of the symmetric pair: the same scale if the type is UINT8 with zero-point 128."""
    if quantization.zero_point.dtype == np.uint8 and (quantization.zero_point == 128).all():
        return quantization.scale.reshape(())
    return np.asarray(scale_from_amax(quantization.amax().max()), quantization.scale.dtype)


def _input(pair: Pair, quantization: Quantization, scale: np.ndarray) -> Graft:
    (dequantize,) = pair.dequantizes[:1]
    name, dtype = key(dequantize), quantization.scale.dtype
    wide = scale.astype(np.float32)  # a half-precision model computes here in FP32, as DequantizeLinear does
    into = f"{name}_new_scale" if dtype == np.float32 else f"{name}_out_scale"
    nodes = [
        make_constant(f"{name}_scale", quantization.scale.reshape(()).astype(np.float32)),
        make_constant(f"{name}_zero", quantization.zero_point.reshape(()).astype(np.float32)),
        make_constant(f"{name}_new_scale", wide),
        *([] if dtype == np.float32 else [make_constant(into, scale)]),
        make_constant(f"{name}_int8", np.zeros((), np.int8)),
        make_node("Cast", [pair.tensor], f"{name}_cast", to=wide.dtype),
        make_node("Sub", [f"{name}_cast", f"{name}_zero"], f"{name}_centred"),
        make_node("Mul", [f"{name}_centred", f"{name}_scale"], f"{name}_real"),
        make_node("QuantizeLinear", [f"{name}_real", f"{name}_new_scale", f"{name}_int8"], f"{name}_quantized"),
        *(make_node("DequantizeLinear", [f"{name}_quantized", into, f"{name}_int8"], key(d)) for d in pair.dequantizes),
    ]
    return replace(pair.dequantizes, nodes)


def _alone(graph: Graph, pair: Pair) -> bool:
    """Returns whether only the DequantizeLinears of the pair read its integers."""
    assert pair.quantize is not None
    return pair.agrees and len(graph.readers(key(pair.quantize))) == len(pair.dequantizes)


def _output(graph: Graph, pair: Pair, quantization: Quantization) -> Graft:
    """Returns the arithmetic of the QuantizeLinear; its DequantizeLinears get a separate QuantizeLinear."""
    assert pair.quantize is not None
    name, dtype, bounds = key(pair.quantize), np.dtype(np.float32), np.iinfo(quantization.zero_point.dtype)
    read = pair.tensor if quantization.scale.dtype == dtype else f"{name}_real"
    nodes = [
        *([] if read == pair.tensor else [make_node("Cast", [pair.tensor], read, to=dtype)]),
        make_constant(f"{name}_scale", quantization.scale.reshape(()).astype(dtype)),
        make_constant(f"{name}_zero", quantization.zero_point.reshape(()).astype(dtype)),
        make_constant(f"{name}_low", np.asarray(bounds.min, dtype)),
        make_constant(f"{name}_high", np.asarray(bounds.max, dtype)),
        make_node("Div", [read, f"{name}_scale"], f"{name}_steps"),
        make_node("Round", [f"{name}_steps"], f"{name}_round"),
        make_node("Add", [f"{name}_round", f"{name}_zero"], f"{name}_moved"),
        make_node("Clip", [f"{name}_moved", f"{name}_low", f"{name}_high"], f"{name}_clipped"),
        make_node("Cast", [f"{name}_clipped"], name, to=quantization.zero_point.dtype),
    ]
    parameters = [t.name for t in pair.quantize.inputs[1:]]
    if pair.dequantizes:
        inner, kept = f"{name}_inner", attributes(graph, pair.quantize)
        nodes.append(make_node("QuantizeLinear", [pair.tensor, *parameters], inner, kept))
        nodes += [make_node("DequantizeLinear", [inner, *parameters], key(d)) for d in pair.dequantizes]
    return replace(pair.nodes, nodes)

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


class IntegersAtTheEdge(Rule):
    """An input or output of the network holds integers that TensorRT's Q and DQ do not take.

    Why: TensorRT knows UINT8 inputs and outputs, but only a Cast may read or make them; its Q and DQ are INT8 around zero.
    Converters from TensorFlow Lite write such networks. The arithmetic of the Q or DQ is written out instead: the type
    of the input or output stays, and the same integers go in and come out. An input gets a symmetric pair behind it, and
    where the network goes on with the integers of an output, that has a pair of its own.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md, measured on TensorRT-RTX 1.7.1
    """

    code, name, safety = "QDQ415", "integers-at-the-edge", Safety.LOSSY
    severity = Severity.ERROR

    examples = [
        Example(
            "a UINT8 input",
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
            "a UINT8 output",
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
            "INT8 around zero",
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
            grid = Quantization.of(pair)
            taken = grid is None or (grid.zero_point.dtype == np.int8 and not grid.zero_point.any())
            if grid is not None and (grid.zero_point.dtype.itemsize > 1 or grid.scale.dtype != np.float32):
                continue
            if grid is None or taken or grid.scale.size > 1 or not (grid.scale > 0).all() or graph.opset < 11:
                continue
            if pair.quantize is None and pair.tensor in graph.inputs:
                scale = _symmetric(grid)
                yield self.finding(
                    pair.nodes[0],
                    f"the input '{pair.tensor}' holds {pair.types[1].upper()} that a DequantizeLinear reads",
                    help="write its arithmetic out, with a symmetric pair downstream",
                    bits_lost=max(bits_lost(float(scale), pair.value), 0.0),
                    edits=[_input(pair, grid, scale)],
                )
            elif pair.quantize is not None and key(pair.quantize) in graph.outputs and _alone(graph, pair):
                yield self.finding(
                    pair.nodes[0],
                    f"the output '{key(pair.quantize)}' holds {pair.types[1].upper()} that a QuantizeLinear makes",
                    help="write its arithmetic out",
                    edits=[_output(graph, pair, grid)],
                    safety=Safety.EXACT,
                )


def _symmetric(grid: Quantization) -> np.ndarray:
    """The scale of the symmetric pair: the grid's own where its middle is zero already."""
    if grid.zero_point.dtype == np.uint8 and (grid.zero_point == 128).all():
        return grid.scale.reshape(())
    return np.asarray(scale_from_amax(grid.amax().max()), grid.scale.dtype)


def _input(pair: Pair, grid: Quantization, scale: np.ndarray) -> Graft:
    (dequantize,) = pair.dequantizes[:1]
    name, dtype = key(dequantize), grid.scale.dtype
    nodes = [
        make_constant(f"{name}_scale", grid.scale.reshape(())),
        make_constant(f"{name}_zero", grid.zero_point.reshape(()).astype(dtype)),
        make_constant(f"{name}_new_scale", scale),
        make_constant(f"{name}_int8", np.zeros((), np.int8)),
        make_node("Cast", [pair.tensor], f"{name}_cast", to=dtype),
        make_node("Sub", [f"{name}_cast", f"{name}_zero"], f"{name}_centred"),
        make_node("Mul", [f"{name}_centred", f"{name}_scale"], f"{name}_real"),
        make_node("QuantizeLinear", [f"{name}_real", f"{name}_new_scale", f"{name}_int8"], f"{name}_quantized"),
        *(
            make_node("DequantizeLinear", [f"{name}_quantized", f"{name}_new_scale", f"{name}_int8"], key(d))
            for d in pair.dequantizes
        ),
    ]
    return replace(pair.dequantizes, nodes)


def _alone(graph: Graph, pair: Pair) -> bool:
    """Whether nothing in the graph but the pair's own DequantizeLinears reads the integers."""
    assert pair.quantize is not None
    return pair.agrees and len(graph.readers(key(pair.quantize))) == len(pair.dequantizes)


def _output(graph: Graph, pair: Pair, grid: Quantization) -> Graft:
    """The arithmetic of the QuantizeLinear; its DequantizeLinears get one of their own, which no output pins."""
    assert pair.quantize is not None
    name, dtype, bounds = key(pair.quantize), grid.scale.dtype, np.iinfo(grid.zero_point.dtype)
    nodes = [
        make_constant(f"{name}_scale", grid.scale.reshape(())),
        make_constant(f"{name}_zero", grid.zero_point.reshape(()).astype(dtype)),
        make_constant(f"{name}_low", np.asarray(bounds.min, dtype)),
        make_constant(f"{name}_high", np.asarray(bounds.max, dtype)),
        make_node("Div", [pair.tensor, f"{name}_scale"], f"{name}_steps"),
        make_node("Round", [f"{name}_steps"], f"{name}_round"),
        make_node("Add", [f"{name}_round", f"{name}_zero"], f"{name}_moved"),
        make_node("Clip", [f"{name}_moved", f"{name}_low", f"{name}_high"], f"{name}_clipped"),
        make_node("Cast", [f"{name}_clipped"], name, to=grid.zero_point.dtype),
    ]
    parameters = [t.name for t in pair.quantize.inputs[1:]]
    if pair.dequantizes:
        inner, kept = f"{name}_inner", attributes(graph, pair.quantize)
        nodes.append(make_node("QuantizeLinear", [pair.tensor, *parameters], inner, kept))
        nodes += [make_node("DequantizeLinear", [inner, *parameters], key(d)) for d in pair.dequantizes]
    return replace(pair.nodes, nodes)

"""QDQ405."""

from collections.abc import Iterator

from qdqgraph import Counterexample, Example, Finding, Graph, Pair, Rule, Safety, Severity, pairs


class AxisWrong(Rule):
    """The axis of per-channel weights is missing or wrong.

    Why: TensorRT wants the scales of a convolution's weights along output channels: axis 0 for Conv, and for Gemm
    axis 0 with transB, 1 without. Where the attribute is missing ONNX means 1 and TensorRT's parser 0. For
    ConvTranspose the right axis changed between versions (0 from 8.4 to 10.1, 1 since 10.2), so it is not judged.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/onnxOpImporters.cpp,
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
    """

    code, name, safety = "QDQ405", "axis-wrong", Safety.MANUAL
    severity = Severity.ERROR

    examples = [
        Example(
            "axis 1 on the weights of a convolution",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,2,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {64, 32, 16, 8}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = 1> (w, sw, zw)
                y = Conv (d, k)
            }""",
        ),
        Example(
            "no axis",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,2,4,4] y)
            <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64, 32}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}>
            {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                k = DequantizeLinear (w, sw, zw)
                y = Conv (d, k)
            }""",
        ),
        Counterexample(
            "axis 0",
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
            if pair.kind == "weight" and pair.scale is not None and pair.scale.ndim == 1 and pair.scale.size > 1:
                fault = self._fault(graph, pair)
                if fault:
                    yield self.finding(
                        pair.nodes[0],
                        f"the weights '{pair.tensor}' {fault}",
                        help="write the axis of the output channels",
                    )

    def _fault(self, graph: Graph, pair: Pair) -> str:
        size = 0 if pair.scale is None else pair.scale.size
        if pair.axis is None:
            return f"have {size} scales and no axis: ONNX means 1, TensorRT 0"
        shape = graph.shape(pair.tensor)
        axis = pair.axis
        if shape is not None:
            axis += len(shape) if axis < 0 else 0
            if not 0 <= axis < len(shape) or shape[axis] not in (size, None):
                return f"of shape {list(shape)} have {size} scales along axis {pair.axis}"
        readers = [r for d in pair.dequantizes for t in d.outputs for r in graph.readers(t.name) if r.index == 1]
        for reader in readers:
            wanted = {"Conv": 0, "Gemm": 0 if reader.node.attrs.get("transB", 0) else 1}.get(reader.node.op)
            if wanted is not None and axis != wanted:
                return f"are quantized along axis {pair.axis}; {reader.node.op} needs {wanted}"
        return ""

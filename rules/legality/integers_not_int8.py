"""QDQ402."""

from collections.abc import Iterator

import numpy as np

from qdqgraph import Counterexample, Example, Finding, Graph, Rule, Safety, Severity, pairs


class IntegersNotInt8(Rule):
    """A pair quantizes to integers that TensorRT does not take.

    Why: Q and DQ of TensorRT are INT8 (or FP8, or INT4 for weights); UINT8, which pytorch-quantization writes for
    `unsigned=True` and onnxruntime by default, is refused by the parser since 8.5. A QuantizeLinear without a
    zero-point means UINT8 in ONNX and INT8 in TensorRT: it builds, and computes something else.
    Source: https://github.com/onnx/onnx-tensorrt/blob/10.1-GA/docs/operators.md,
    https://github.com/NVIDIA/TensorRT/blob/main/tools/pytorch-quantization/pytorch_quantization/tensor_quant.py
    """

    code, name, safety = "QDQ402", "integers-not-int8", Safety.MANUAL
    severity = Severity.ERROR

    examples = [
        Example(
            "UINT8",
            before="""
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, uint8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
        Counterexample(
            "INT8",
            """
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[1,1,4,4] x) => (float[1,1,4,4] y)
            <float s = {0.1}, int8 z = {0}>
            {
                q = QuantizeLinear (x, s, z)
                y = DequantizeLinear (q, s, z)
            }""",
        ),
    ]

    REFUSED = (np.uint8, np.int16, np.uint16)

    def find(self, graph: Graph) -> Iterator[Finding]:
        for pair in pairs(graph):
            if pair.zero_point is not None and pair.zero_point.dtype in self.REFUSED:
                yield self.finding(
                    pair.nodes[0],
                    f"'{pair.tensor}' is quantized to {str(pair.zero_point.dtype).upper()}; TensorRT takes INT8",
                    help="quantize to signed 8-bit integers",
                )
            elif pair.zero_point is None and pair.quantize is not None and len(pair.quantize.inputs) < 3:
                yield self.finding(
                    pair.nodes[0],
                    f"'{pair.tensor}' is quantized without a zero-point: UINT8 for ONNX, INT8 for TensorRT",
                    help="write an INT8 zero-point of 0",
                    severity=Severity.WARNING,
                )

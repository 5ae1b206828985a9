"""Ranges that tensors reach: of FP32 tensors alone, and of finite values alone."""

from pathlib import Path

import onnx

from qdqgraph.calibration import inputs
from qdqgraph.calibration.ranges import measured_ranges


def test_a_network_in_fp16_throughout_has_no_fp32_ranges() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float16[1,4] x) => (float16[1,4] y) { y = Relu (x) }'
    )
    assert measured_ranges(model, inputs.noise(model), Path()) == {}

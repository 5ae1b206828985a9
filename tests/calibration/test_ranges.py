"""Ranges that tensors reach: of FP32 tensors alone, and of finite values alone."""

from pathlib import Path

import numpy as np
import onnx

from qdqgraph.calibration.noise import noise
from qdqgraph.calibration.ranges import measured_ranges


def test_a_network_in_fp16_throughout_has_no_fp32_ranges() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float16[1,4] x) => (float16[1,4] y) { y = Relu (x) }'
    )
    assert measured_ranges(model, noise(model), Path()) == {}


def test_a_range_is_the_largest_finite_magnitude_of_all_samples() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y) <float zero = {0}> { n = Neg (x) y = Div (n, zero) }"""
    )
    feeds = [{"x": np.array([1, -3], np.float32)}, {"x": np.array([2, 0.5], np.float32)}]
    assert measured_ranges(model, feeds, Path()) == {"x": 3.0, "n": 3.0, "y": 0.0}

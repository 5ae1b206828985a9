"""Ranges that tensors reach: of FP32 tensors alone, and of finite values alone."""

from pathlib import Path

import numpy as np
import onnx
import pytest

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


def test_ranges_do_not_depend_on_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a model whose initializers are inputs, as files before IR version 4 have them."""
    model = onnx.parser.parse_model(
        """<ir_version: 3, opset_import: ["" : 17]>
        g (float[64] x, float[64] w) => (float[64] y) { a = Mul (x, w) b = Neg (a) c = Add (b, x) y = Exp (c) }"""
    )
    random = np.random.default_rng(0)
    model.graph.initializer.append(onnx.numpy_helper.from_array(random.random(64, np.float32), "w"))
    feeds = [{"x": random.standard_normal(64).astype(np.float32)} for _ in range(3)]
    whole = measured_ranges(model, feeds, Path())
    assert set(whole) == set("xabcy") and whole["x"] == max(float(np.abs(f["x"]).max()) for f in feeds)
    monkeypatch.setattr("qdqgraph.calibration.statistics.running.Running._budget", lambda self: 2000)
    assert measured_ranges(model, feeds, Path()) == whole

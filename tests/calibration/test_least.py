"""Candidates for a scale are compared at the layers that read the tensor, and each sample counts alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser

from qdqgraph.calibration.layers.least import least_at_layers
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.graph.graph import Graph

NETWORK = """<ir_version: 8, opset_import: ["": 17]>
net (float[1, 4] x) => (float[1, 4] y)
<float s = {1.0}, int8 z = {0}, float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}>
{
  q = QuantizeLinear(x, s, z)
  d = DequantizeLinear(q, s, z)
  y = MatMul(d, w)
}"""
COARSE, FINE = 1.0, 0.01
"""Without clipping up to 127, and up to 1.27."""
LOUD = np.array([[120.0, -90.0, 60.0, 30.0]], np.float32)
QUIET = np.array([[0.4, -0.3, 0.2, 0.1]], np.float32)


def best(*samples: np.ndarray) -> int:
    model = onnx.parser.parse_model(NETWORK)
    network = float_model(model, Path())
    return least_at_layers(Graph(model), network, [["x"]], [[COARSE, FINE]], [{"x": sample} for sample in samples])[0]


def test_one_sample_with_large_values_does_not_decide_for_many_with_small_ones() -> None:
    """In a sum over all values, the loud sample's clipping would outweigh that the quiet ones round to zero."""
    assert best(LOUD) == 0
    assert best(QUIET) == 1
    assert best(LOUD, *[QUIET * factor for factor in (1.0, 0.9, 0.8)]) == 1


def test_samples_that_are_all_zero_do_not_count() -> None:
    assert best(np.zeros_like(LOUD), LOUD) == 0

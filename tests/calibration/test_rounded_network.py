"""A detector with rounded weights in its first layers: they gain on held-back samples, and a second run changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import qdqgraph
from samples.export import export

SIZE = 64


def test_the_first_layers_of_a_yolov5s_gain(tmp_path: Path) -> None:
    export("yolov5s", tmp_path / "net.onnx", size=SIZE)
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 1, (8, 1, 3, 8, 8)).repeat(SIZE // 8, 3).repeat(SIZE // 8, 4)
    feeds = [{"images": (0.9 * c + 0.1 * random.uniform(0, 1, c.shape)).astype(np.float32)} for c in coarse]
    model = onnx.load(tmp_path / "net.onnx")
    first = tuple(node.name for node in model.graph.node if node.op_type == "Conv")[:8]
    result = qdqgraph.fix(model, data=feeds, calibrate="none", round_weights=True, only=first)
    (step,) = result.corrections
    assert step.examined == 8
    assert len(step.layers) > 0.8 * step.examined
    assert np.median([layer.after - layer.before for layer in step.layers]) > 1
    assert step.gain is not None and step.kept == step.gain.pays
    again = qdqgraph.fix(result.model, data=feeds, calibrate="none", round_weights=True, only=first)
    assert again.model.SerializeToString() == result.model.SerializeToString()

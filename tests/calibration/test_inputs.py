"""Inputs for a model: noise as wide as the model expects it."""

import numpy as np
import onnx
import pytest

from qdqgraph.calibration.inputs import noise
from tests.support.models import build

PAIRED = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"
"""Quantized at the input with scale 0.1."""


def test_noise_is_seeded_and_fills_the_range_of_the_inputs_pair() -> None:
    (first,), (again,), (other,) = (noise(build(PAIRED), seed=seed) for seed in (0, 0, 1))
    assert first["x"].tobytes() == again["x"].tobytes() != other["x"].tobytes()
    assert 12 < np.abs(first["x"]).max() <= 12.7


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [
        ("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu (x) }", (1, 3, 224, 224), np.float32),
        ("g (float[N,C,H,W] x) => (float[N,C,H,W] y) { y = Relu (x) }", (1, 3, 224, 224), np.float32),
        ("g (float[N,T,8] x) => (float[N,T,8] y) { y = Relu (x) }", (1, 16, 8), np.float32),
        ("g (int64[N,4] x) => (int64[N,4] y) { y = Identity (x) }", (1, 4), np.int64),
        ("g (bool[4] x) => (bool[4] y) { y = Not (x) }", (4,), np.bool_),
    ],
)
def test_open_dimensions_of_noise(text: str, shape: tuple[int, ...], dtype: type) -> None:
    (feed,) = noise(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'))
    assert feed["x"].shape == shape and feed["x"].dtype == dtype

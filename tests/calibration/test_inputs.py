"""Inputs for a model: noise as wide as the model expects it, and samples from .npz files."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph import ModelError
from qdqgraph.calibration.inputs import load, noise
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


def test_a_file_is_cut_into_samples_of_the_models_batch_and_type(tmp_path: Path) -> None:
    images = np.arange(3 * 4 * 64, dtype=np.float64).reshape(3, 4, 8, 8)
    np.savez(tmp_path / "x.npz", x=images, more=np.zeros(1))
    feeds = load(tmp_path / "x.npz", build(PAIRED))
    assert [f["x"].shape for f in feeds] == [(1, 4, 8, 8)] * 3 and feeds[0]["x"].dtype == np.float32
    assert np.array_equal(np.concatenate([f["x"] for f in feeds]), images) and set(feeds[0]) == {"x"}


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    two = "g (float[1,2] a, float[1,2] b) => (float[1,2] y) { y = Add (a, b) }"
    file = tmp_path / "x.npz"
    np.savez(file, a=np.zeros((2, 2)), b=np.zeros((3, 2)))
    with pytest.raises(ModelError, match=r"different numbers of samples: \[2, 3\]"):
        load(file, build(two))
    np.savez(file, a=np.zeros((2, 2)))
    with pytest.raises(ModelError, match=r"contains \['a'\], but the model's inputs are \['a', 'b'\]"):
        load(file, build(two))
    file.write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"x\.npz: not an \.npz file"):
        load(file, build(two))

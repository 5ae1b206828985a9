"""The model of the tests of calls."""

from pathlib import Path

import onnx
import pytest

from tests.support.models import build

MODEL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
    a = Relu (x)  b = t.pair (a, s1)  c = t.pair (a, s2)  d = t.conv4 (b, s1)  e = t.conv4 (c, s2)  y = Add (d, e) }"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(build(MODEL), path)
    return path

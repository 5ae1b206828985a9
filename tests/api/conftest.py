"""The model of the tests of calls."""

from pathlib import Path

import onnx
import pytest

from tests.support.commands import MODEL
from tests.support.models import build


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(build(MODEL), path)
    return path

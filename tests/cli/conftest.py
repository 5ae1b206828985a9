"""What tests of the command line begin with: a model with one finding, a folder with PyTorch networks."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from tests.support.commands import TEXT
from tests.support.models import build
from tests.support.torch_nets import NETS


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(build(TEXT), path)
    return path


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module `mynets`, which is the current one."""
    (tmp_path / "mynets.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mynets", None)

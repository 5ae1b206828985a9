"""`--data` of `fix`: files, functions, pictures; the device of the numeric check."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph.cli.main import main
from tests.support.models import build


def test_data_for_the_numeric_check(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "good.npz", x=np.random.default_rng(0).normal(size=(3, 4, 8, 8)))
    assert main(["fix", str(model), "--dry-run", "--data", str(tmp_path / "good.npz")]) == 0
    assert "on 3 samples of your data" in " ".join(capsys.readouterr().out.split())
    np.savez(tmp_path / "bad.npz", image=np.zeros((1, 4, 8, 8)))
    assert main(["fix", str(model), "--dry-run", "--data", str(tmp_path / "bad.npz")]) == 2
    assert "the model's inputs are ['x']" in capsys.readouterr().err


LOADER = """
import numpy as np


def load_data():
    for value in range(4):
        yield {"x": np.full((1, 4, 8, 8), value / 4, np.float32)}


def broken():
    yield {"x": np.zeros((1, 4, 8, 8), np.float32)}
    raise RuntimeError("no more disks")
"""


def test_data_of_a_function_in_a_file_or_module(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my-loader.py").write_text(LOADER)
    (tmp_path / "loader_of_test.py").write_text(LOADER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("my-loader.py:load_data", str(tmp_path / "my-loader.py:load_data"), "loader_of_test:load_data"):
        assert main(["fix", str(model), "--dry-run", "--data", name, "--samples", "3"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "on 3 samples of your data" in said and f"samples: {name}" in said
    for name, message in (
        ("my-loader.py:nothing", "my-loader.py has no 'nothing'"),
        ("none.py:load_data", "there is no file none.py"),
        ("no_such_module:load_data", "there is no module 'no_such_module'"),
    ):
        assert main(["fix", str(model), "--dry-run", "--data", name]) == 2
        assert message in capsys.readouterr().err
    assert main(["fix", str(model), "--dry-run", "--data", "my-loader.py:broken"]) == 2
    said = capsys.readouterr().err
    assert 'raise RuntimeError("no more disks")' in said
    assert "my-loader.py:broken failed with the RuntimeError above" in said


def test_pictures_say_what_was_done_to_them(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.full((10, 12, 3), 99, np.uint8)).save(tmp_path / "a.png")
    path = tmp_path / "three.onnx"
    onnx.save(build("g (float[N,3,4,4] x) => (float[N,3,4,4] y) { a = t.pair (x, s1) y = Relu (a) }"), path)
    assert main(["fix", str(path), "--dry-run", "--data", str(tmp_path), "--preprocess", "unit"]) == 0
    assert (
        "1 pictures of" in (said := " ".join(capsys.readouterr().out.split())) and "stretched to 4x4, rgb, nchw" in said
    )
    assert main(["fix", str(path), "--dry-run", "--data", str(tmp_path)]) == 2
    assert "pictures need --preprocess" in capsys.readouterr().err
    assert main(["fix", str(path), "--dry-run", "--preprocess", "unit"]) == 2
    assert "have an effect only with data" in capsys.readouterr().err


def test_a_fallback_provider_is_said(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    assert main(["fix", str(model), "--dry-run", "--provider", "cuda"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    said = "has no CUDAExecutionProvider here; the numeric check ran on the CPU" in shown
    assert said == ("CUDAExecutionProvider" not in onnxruntime.get_available_providers())

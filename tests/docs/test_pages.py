"""The pages for users are run: their commands and Python, in order, on the network of `samples/small.py`."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")

from PIL import Image

from qdqgraph.cli.main import main
from samples import small
from tests.support.documents import blocks, pages
from tests.support.pages import run_page
from tests.support.paths import DATA, ROOT

ELSEWHERE = {"torch.md", "from-nvidia-scripts.md", "tutorial.md", "cli.md", "api.md"}
"""Pages with tests of their own; the examples of the CLI reference are checked as commands."""
NEEDS = {"engines.md": ("tensorrt_rtx", "openvino")}
"""Packages without which a page does not run."""
LOG = """
[V] [TRT] Engine Layer Information:
Layer(Reformat): q, Tactic: 0x00000000000003ea, images[Float(1,3,64,96)] -> q[Int8(1,3,64,96)]
Layer(CaskConvolution): w + /conv/Conv, Tactic: 0x02d9f5211e4d2d82, q[Int8(1,3,64,96)] -> y[Int8(1,8,64,96)]
"""
"""The part of a verbose log that lists the layers."""
RUN = [
    page
    for page in pages()
    if page.name not in ELSEWHERE and any(b.kind in ("console", "sh", "python") and not b.reason for b in blocks(page))
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages use: models, samples, pictures, ranges, and engines that NVIDIA published. TensorRT accepts
    `model.onnx`: only what it refuses was repaired."""
    folder = tmp_path_factory.mktemp("reader")
    small.write(folder)
    images = np.load(folder / "inputs.npz")["images"]
    shutil.copy(folder / "inputs.npz", folder / "images.npz")
    (folder / "photos").mkdir()
    for number, image in enumerate(np.concatenate([images] * 4)):  # as many as a page asks for
        pixels = np.clip(image.transpose(1, 2, 0) * 50 + 128, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    raw, model, quiet = folder / "raw.onnx", folder / "model.onnx", ["--no-numerics", "--no-config"]
    model.rename(raw)
    assert main(["fix", str(raw), "-o", str(model), "--select", "QDQ4", *quiet]) == 0
    assert main(["fix", str(model), "-o", str(folder / "fixed.onnx"), *quiet]) == 0
    shutil.copy(folder / "model.onnx", folder / "exported.onnx")
    (folder / "calibration.cache").write_text(cache(folder / "float.onnx"), encoding="utf-8")
    for name, source in {"a": "qat", "best": "qat", "b": "qat-residual", "qdq": "qat-residual", "e": "qat"}.items():
        for kind in ("graph", "profile"):
            shutil.copy(DATA / f"{source}.{kind}.json", folder / f"{name}.{kind}.json")
    (folder / "build.log").write_text(LOG, encoding="utf-8")
    return folder


def cache(model: Path) -> str:
    """A TensorRT calibration cache with a range of 4 for every tensor of a model."""
    scale = struct.pack(">f", 4 / 127).hex()
    graph = onnx.load(model).graph
    names = [graph.input[0].name, *(node.output[0] for node in graph.node)]
    return "TRT-8601-MinMaxCalibration\n" + "".join(f"{name}: {scale}\n" for name in names)


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_does_what_it_says(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDS.get(page.name, ()):
        pytest.importorskip(package)
    folder = tmp_path / "reader"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    steps = list(run_page(page))
    assert steps
    assert [(step.text, step.expected, step.output) for step in steps if not step.as_quoted()] == []

"""The recipes of docs/recipes.md whose exporters the tests have, run unchanged, followed by the page's last step."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("pytorch_quantization")
pytest.importorskip("tensorrt_rtx")

import torch

from benchmarks.exporters.measure import Built, built
from benchmarks.exporters.recipes import EXPORTERS, PAGE, on_page, program
from samples import networks, quantize

ALL_INT8 = Built(28, 28)
"""The demo's network with all its 28 convolutions in INT8."""
PROJECT = """
import numpy as np
import torch

images = list(np.load("photos.npy"))
input_name = "images"


def network():
    from samples.networks import Digits, fold_norms

    model = Digits().eval()
    fold_norms(model)
    model.load_state_dict(torch.load("weights.pt"))
    return model
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's side of every recipe: model.onnx, my_project.py and four images, for the demo's network."""
    folder = tmp_path_factory.mktemp("project")
    torch.manual_seed(0)
    network = networks.Digits().train()
    pictures = networks.images(16, 32, seed=0)[:, :1]
    with torch.no_grad():
        network(pictures)  # settles the BatchNorms
    networks.fold_norms(network.eval())
    quantize.export(network, pictures[:1], folder / "model.onnx", network.outputs)
    np.save(folder / "photos.npy", pictures[:4, None].numpy())
    torch.save(network.state_dict(), folder / "weights.pt")
    (folder / "my_project.py").write_text(PROJECT, encoding="utf-8")
    return folder


def run(text: str, folder: Path) -> tuple[Built, Built, str]:
    """What TensorRT-RTX makes of the exporter's file and of the repaired one, and what the last step printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    said = ""
    for step in (text, on_page("fix.py")):
        (folder / "recipe.py").write_text(step, encoding="utf-8")
        command = [sys.executable, "-W", "ignore", "recipe.py"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
        said = done.stdout
    return built(folder / "quantized.onnx"), built(folder / "fixed.onnx"), said


def test_onnxruntime_writes_what_tensorrt_refuses_and_the_last_step_makes_all_of_it_int8(project: Path) -> None:
    raw, fixed, said = run(program(EXPORTERS["ort-default"]), project)
    assert raw.refused
    assert fixed == ALL_INT8
    assert "QDQ406" in said and "bits lost" in said


def test_onnxruntime_with_the_settings_of_the_page_needs_no_repair_of_types(project: Path) -> None:
    settings = re.findall(r"`(settings = dict\(activation_type=[^`]*)`", PAGE.read_text(encoding="utf-8"))
    text = on_page("quantize_static.py")
    assert len(settings) == 1 and text.count("settings = {}") == 1
    raw, fixed, said = run(text.replace("settings = {}", settings[0]), project)
    assert raw.refused == "" and fixed == ALL_INT8
    assert "QDQ4" not in said and "QDQ2" in said


def test_unsigned_quantizers_of_pytorch_quantization_become_signed(project: Path) -> None:
    _, fixed, said = run(program(EXPORTERS["pq-unsigned"]), project)
    assert fixed == ALL_INT8
    assert "QDQ402" in said

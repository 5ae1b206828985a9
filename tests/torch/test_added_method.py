"""A calibration method is one file: Python, configurations and the command line know it as soon as it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import nn

from qdqgraph.calibration import methods
from qdqgraph.cli.main import main
from qdqgraph.errors import CalibrationError, RuleError, TorchError
from qdqgraph.torch import Config, Spec, calibrate, load, quantize, quantizers

P_NORM = '''
"""p-norm: amax follows the mean of the magnitudes' fourth powers."""

import numpy as np

from qdqgraph.calibration.method import Method


def search(histogram, *, percentile, bound, sums):
    centers = (histogram.edges[1:] + histogram.edges[:-1]) / 2
    return float(3 * np.average(centers**4, weights=histogram.counts) ** (1 / 4))


METHOD = Method("p-norm", "three times the fourth root of the mean fourth power", search)
'''
NETS = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))


def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, 8, 8, generator=generator) for _ in range(2)]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory; the folder of methods has one more file."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "p_norm.py").write_text(P_NORM)
    (tmp_path / "normed_nets.py").write_text(NETS)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "methods")])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, 8, 8, generator=generator) for _ in range(2)]


def input_amax(model: nn.Module) -> float:
    return float(quantizers(model)["0._input_quantizer"].amax)


def expected() -> float:
    return 3 * float(torch.cat(images()).pow(4).mean()) ** (1 / 4)


def test_python_calibrates_by_it(folder: Path) -> None:
    model = network()
    quantize(model)
    assert calibrate(model, images(), method="p-norm").amax
    assert input_amax(model) == pytest.approx(expected(), rel=0.01)


def test_a_configuration_names_it(folder: Path) -> None:
    Path("q.toml").write_text('[input]\nmethod = "p-norm"\n')
    model = network()
    quantize(model, Config.read(Path("q.toml")))
    calibrate(model, images())
    assert input_amax(model) == pytest.approx(expected(), rel=0.01)
    with pytest.raises(TorchError, match="method 'p-norm' searches one histogram, but axis 0"):
        quantize(network(), Config(weight=Spec(method="p-norm")))


def test_the_command_line_offers_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nets = ["--model", "normed_nets:build", "--data", "normed_nets:batches"]
    args = ["torch", "quantize", *nets, "-o", "net.onnx", "--save-ptq", "ptq.pt", "--method", "p-norm"]
    assert main(args) == 0
    model = network()
    load(model, "ptq.pt")
    assert input_amax(model) == pytest.approx(expected(), rel=0.01)
    with pytest.raises(SystemExit):
        main(["torch", "quantize", "--help"])
    assert "fourth root of the mean" in " ".join(capsys.readouterr().out.split())


def test_messages_list_it(folder: Path) -> None:
    model = network()
    quantize(model)
    with pytest.raises(CalibrationError, match=r"no calibration method 'mean': write max, .*, p-norm"):
        calibrate(model, images(), method="mean")
    Path("q.toml").write_text('[[layers]]\nmodules = ["0"]\ninput = { method = "mean" }\n')
    with pytest.raises(RuleError, match=r"q\.toml:3: layers #1 input method is 'mean'; write one of max, .*, p-norm"):
        Config.read(Path("q.toml"))


def test_without_the_file_there_is_no_such_method() -> None:
    assert "p-norm" not in methods.methods()

"""The pipeline: one call from Python does what a `qdqgraph torch` command does, with the same options and files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn

from qdqgraph.cli.main import main
from qdqgraph.errors import CalibrationError, ModelError, TorchError
from qdqgraph.torch import (
    Config,
    Exporting,
    FirstInputError,
    FloatUnits,
    Network,
    Preparation,
    Sensitivity,
    Training,
    finetune_network,
    quantize_network,
    rank_layers,
)

NETS = '''
import torch
from torch import nn


class Net(nn.Module):
    """A residual add of two convolutions."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.a, self.b, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.b(torch.relu(self.a(x)))
        return self.fc(torch.relu(x).mean((2, 3)))


def build():
    torch.manual_seed(0)
    return Net()


def batches():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 1, 8, 8, generator=generator), torch.zeros(4)) for _ in range(2)]


def score(net):
    """Counts what is asked: nearer to the float network's answer is better."""
    with torch.no_grad():
        return -float((net(batches()[0][0]) - build().eval()(batches()[0][0])).square().mean())
'''


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of the user's, in the working directory."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("nets", None)
    import nets  # type: ignore[import-not-found]

    yield nets
    sys.modules.pop("nets", None)


def network(nets: Any) -> Network:
    return Network(nets.build, nets.batches, nets.score)


NO_UNITS = Sensitivity("disable", "", 0, 0, ())
COMMON = ["--model", "nets:build", "--data", "nets:batches", "--eval", "nets:score"]


def test_quantizing_returns_what_each_step_did_and_prints_nothing(
    nets: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    done = quantize_network(network(nets), "net.onnx", progress=lines.append)
    assert capsys.readouterr() == ("", "")
    assert list(done.scores) == ["float", "calibrated"] and done.scores["float"] == pytest.approx(0, abs=1e-9)
    assert done.prepared.quantized is not None and {"stem", "fc"} <= set(done.prepared.quantized.replaced)
    assert done.prepared.linked is not None and done.prepared.linked.added
    assert done.prepared.calibrated is not None and done.prepared.calibrated.amax
    assert done.path == Path("net.onnx") and done.path.read_bytes() == done.proto.SerializeToString(deterministic=True)
    assert done.findings == () and done.finetuned is None
    steps = [line.split(":")[0].split("\n")[0] for line in lines if ":" in line]
    assert steps == ["float", "linked", "calibrated", "compared with ONNX Runtime on 2 batches"]


def test_the_files_are_those_of_the_command_line(nets: Any) -> None:
    Path("q.toml").write_text('ignore = ["fc"]\n')
    words = ["--config", "q.toml", "--method", "mse", "--batches", "1", "--opset", "16", "--dynamic-batch"]
    assert main(["torch", "quantize", *COMMON, *words, "-o", "told.onnx", "--save-ptq", "told.pt"]) == 0
    preparation = Preparation(Config(ignore=("fc",)), method="mse", batches=1)
    exporting = Exporting(opset=16, dynamic_batch=True)
    quantize_network(network(nets), "called.onnx", preparation=preparation, exporting=exporting, save_ptq="called.pt")
    assert Path("told.onnx").read_bytes() == Path("called.onnx").read_bytes()
    assert main(["torch", "sensitivity", *COMMON, "--load", "told.pt", "-o", "told.json"]) == 0
    done = rank_layers(network(nets), "called.json", preparation=Preparation(load="called.pt"))
    for told, called in zip(("told.json", "told.csv", "told.svg"), done.files, strict=True):
        assert Path(told).read_bytes() == called.read_bytes()
    words = ["--load", "told.pt", "--off", "told.json", "--top", "1", "--epochs", "1", "--steps", "1"]
    assert main(["torch", "finetune", *COMMON, *words, "-o", "told.onnx", "--force"]) == 0
    tuned = finetune_network(
        network(nets),
        "called.onnx",
        preparation=Preparation(load="called.pt"),
        off=FloatUnits(done.ranking, top=1),
        training=Training(epochs=1, steps=1),
        force=True,
    )
    assert Path("told.onnx").read_bytes() == Path("called.onnx").read_bytes()
    assert tuned.prepared.in_float == done.ranking.units[0].layers
    assert list(tuned.scores) == ["float", "calibrated", "calibrated again", "fine-tuned"]
    assert tuned.finetuned is not None and len(tuned.finetuned.losses) == 1


def test_a_ranking_that_was_stopped_goes_on(nets: Any) -> None:
    scored: list[nn.Module] = []

    def stopping(model: nn.Module) -> float:
        scored.append(model)
        if len(scored) == 6:
            raise TimeoutError
        return 0.5

    stopped = Network(nets.build, nets.batches, stopping)
    with pytest.raises(TimeoutError):
        rank_layers(stopped, "layers.json")
    assert len(Sensitivity.read(Path("layers.json")).units) == 1
    before = len(scored)
    done = rank_layers(stopped, "layers.json")
    again = len(done.ranking.units) - 1
    assert again > 1 and len(scored) == before + len(["float", "calibrated"]) + again
    with pytest.raises(TorchError, match="is a ranking by direction disable: use that, name another file, or force"):
        rank_layers(stopped, "layers.json", direction="enable")
    assert rank_layers(stopped, "layers.json", direction="enable", force=True).ranking.direction == "enable"


def test_a_network_without_a_score_is_quantized_and_trained_all_the_same(nets: Any) -> None:
    unscored = Network(nets.build, nets.batches)
    assert quantize_network(unscored, "net.onnx", preparation=Preparation(link=False)).scores == {}
    done = finetune_network(unscored, "qat.onnx", training=Training(epochs=1), save_qat="qat.pt")
    assert done.scores == {} and Path("qat.pt").exists()
    with pytest.raises(TorchError, match="evaluate is missing"):
        rank_layers(unscored, "layers.json")


def raising(*args: Any) -> Any:
    raise LookupError("the user's own")


def test_errors_of_the_users_functions_pass_as_they_are(nets: Any) -> None:
    for broken in (
        Network(raising, nets.batches),
        Network(nets.build, raising),
        Network(nets.build, nets.batches, raising),
    ):
        with pytest.raises(LookupError, match="the user's own"):
            quantize_network(broken, "net.onnx")
    with pytest.raises(FirstInputError, match="model fails on the first input: RuntimeError: Given groups") as left:
        quantize_network(Network(nets.build, lambda: [torch.rand(1, 3, 8, 8)]), "net.onnx")
    assert isinstance(left.value.__cause__, RuntimeError)


class Uncopied(nn.Module):
    """A network that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 2)
        self.state = (letter for letter in "state")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": lambda: "net"}, "model returns a str, which is not a torch module"),
        ({"model": lambda: nn.Sequential(nn.ReLU()), "evaluate": None}, "model has no layer that can be quantized"),
        ({"model": Uncopied, "evaluate": None}, "model: the network cannot be copied: cannot pickle 'generator'"),
        ({"data": lambda: []}, "data yields nothing"),
        ({"data": lambda: 3}, "data gives int, which yields no batches"),
        ({"data": lambda: ["image"]}, "data yields str; the first entry must be the input"),
        ({"evaluate": lambda model: "good"}, "evaluate returns 'good', which is not a number"),
        ({"evaluate": lambda model: float("nan")}, "evaluate returns nan, which is not a number"),
        ({"device": "gpu"}, "device gpu cannot be used here"),
    ],
)
def test_what_the_functions_give_is_checked(nets: Any, change: dict[str, Any], message: str) -> None:
    options = {"model": nets.build, "data": nets.batches, "evaluate": nets.score, "device": "cpu"}
    with pytest.raises(TorchError, match=message):
        quantize_network(Network(**options | change), "net.onnx")
    assert not Path("net.onnx").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"preparation": Preparation(Config(), load="ptq.pt")},
            TorchError,
            "config defines how to quantize, but the state of load",
        ),
        (
            {"preparation": Preparation(load="ptq.pt", batches=1)},
            TorchError,
            "batches has no effect: the state of load",
        ),
        ({"preparation": Preparation(load="ptq.pt")}, TorchError, r"ptq\.pt: cannot be read"),
        ({"preparation": Preparation(method="mean")}, CalibrationError, "there is no calibration method 'mean'"),
        ({"preparation": Preparation(percentile=0)}, CalibrationError, "percentile 0: write a number above 0"),
        ({"exporting": Exporting(opset=9)}, TorchError, "opset 13 to 20"),
        ({"off": FloatUnits(NO_UNITS)}, TorchError, "give either the number of units to disable"),
        ({"off": FloatUnits(NO_UNITS, top=-1)}, TorchError, "top -1: give the number of units"),
        ({"save_ptq": "net.onnx"}, TorchError, r"net\.onnx would be written twice"),
        ({"save_ptq": "nets.py"}, ModelError, r"nets\.py exists"),
        ({"save_ptq": "nowhere/ptq.pt"}, ModelError, "folder nowhere does not exist"),
    ],
)
def test_what_cannot_work_is_refused_before_the_network_is_made(
    nets: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        quantize_network(Network(raising, raising), "net.onnx", **options)

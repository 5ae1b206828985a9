"""A training run that was interrupted goes on, and ends with the weights of an uninterrupted one, bit for bit."""

from __future__ import annotations

import copy
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from qdqgraph.errors import TorchError
from qdqgraph.torch import Training, calibrate, finetune, load, quantize, quantizers, save
from tests.support.paths import ROOT

ALL = Training(
    epochs=4,
    rate=3e-3,
    optimizer="SGD",
    optimizer_args={"momentum": 0.9},
    schedule="OneCycleLR",
    mode="train",
    freeze_norms=False,
    learn_amax=True,
    average=0.8,
    seed=5,
)
CASES = [
    ALL,
    Training(epochs=4, rate=3e-3, seed=1),
    Training(epochs=4, rate=3e-3, precision="float16", schedule="MultiStepLR", schedule_args={"milestones": [1, 3]}),
    Training(epochs=4, rate=3e-3, optimizer="Adam", schedule="ReduceLROnPlateau", schedule_args={"patience": 0}),
    Training(epochs=4, rate=3e-3, schedule="CosineAnnealingWarmRestarts", schedule_args={"T_0": 2}),
]


class Net(nn.Module):
    """With a BatchNorm and a Dropout, so that modes and random numbers count."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(nn.functional.dropout(torch.relu(self.norm(self.a(x))), 0.3, self.training))
        return out


def shuffled() -> DataLoader[Any]:
    """Batches in an order that a generator of their own draws."""
    x = torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(x, x.mean((1, 2, 3))), 3, shuffle=True, generator=torch.Generator().manual_seed(2))


def loss(output: Tensor, batch: Any) -> Tensor:
    """Draws from every generator."""
    noise = random.random() + float(np.random.rand()) + torch.rand(())
    return (output.mean((1, 2, 3)) - batch[1] * noise).square().mean()


def pair() -> tuple[Net, Net]:
    teacher = Net().eval()
    student = copy.deepcopy(teacher)
    quantize(student)
    calibrate(student, list(DataLoader(shuffled().dataset, 3)), progress=False)
    return teacher, student


class StoppedError(Exception):
    """The interruption."""


@pytest.mark.parametrize("how", CASES, ids=lambda how: how.schedule)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(how: Training, after: int, tmp_path: Path) -> None:
    def score(model: nn.Module) -> float:
        return float(model(torch.ones(1, 2, 6, 6)).sum().detach()) + random.random()

    def trained(resume: Path, stop: int | None) -> tuple[Any, Any]:
        teacher, student = pair()
        epochs = 0

        def watched(output: Tensor, batch: Any) -> Tensor:
            nonlocal epochs
            epochs += 1
            if stop is not None and epochs > 4 * stop + 2:
                raise StoppedError
            return loss(output, batch)

        watched.__qualname__ = "loss"
        done = finetune(student, teacher, shuffled(), training=how, evaluate=score, loss=watched, resume=resume)
        return done, student

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    whole, expected = trained(tmp_path / "whole.pt", None)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    with pytest.raises(StoppedError):
        trained(tmp_path / "cut.pt", after)
    random.seed(99)
    torch.manual_seed(99)
    done, got = trained(tmp_path / "cut.pt", None)
    assert done.resumed == after and (done.losses, done.scores, done.best) == (whole.losses, whole.scores, whole.best)
    state = got.state_dict()
    assert state.keys() == expected.state_dict().keys()
    assert all(torch.equal(x, state[name]) for name, x in expected.state_dict().items())
    again, same = trained(tmp_path / "cut.pt", None)
    assert again.losses == done.losses and torch.equal(same.a.weight, got.a.weight)


def test_a_checkpoint_of_another_run_or_network_is_refused_with_what_differs(tmp_path: Path) -> None:
    teacher, student = pair()
    file = tmp_path / "run.pt"
    finetune(student, teacher, shuffled(), training=Training(epochs=1), resume=file)
    with pytest.raises(TorchError, match=r"run\.pt: .* differs in rate \(there 0\.0001, here 0\.1\)"):
        finetune(student, teacher, shuffled(), training=Training(epochs=1, rate=0.1), resume=file)
    with pytest.raises(TorchError, match=r"differs in supervised \(there a, b, here b\)"):
        finetune(student, teacher, shuffled(), training=Training(epochs=1), supervise="b", resume=file)
    with pytest.raises(TorchError, match=r"differs in data \(there 1, here 2\)"):
        for data in ("1", "2"):
            named = tmp_path / "named.pt"
            finetune(student, teacher, shuffled(), training=Training(epochs=1), identity={"data": data}, resume=named)
    save(student, tmp_path / "state.pt")
    with pytest.raises(TorchError, match=r"state\.pt: this is a saved state, not the checkpoint"):
        finetune(student, teacher, shuffled(), resume=tmp_path / "state.pt")


def test_a_checkpoint_can_be_loaded_as_a_state(tmp_path: Path) -> None:
    teacher, student = pair()
    finetune(student, teacher, shuffled(), training=Training(epochs=1), resume=tmp_path / "run.pt")
    fresh = Net().eval()
    load(fresh, tmp_path / "run.pt")
    assert torch.equal(fresh(torch.ones(1, 2, 6, 6)), student.eval()(torch.ones(1, 2, 6, 6)))
    assert quantizers(fresh).keys() == quantizers(student).keys()


NETS = """
import os, random, signal
import torch
from torch import nn

torch.set_num_threads(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = torch.relu(self.a(x))
        return self.c(torch.relu(self.b(x) + x))


def build():
    torch.manual_seed(0)
    return Net()


def batches():
    order = torch.randperm(3).tolist()
    made = [torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    return [made[i] for i in order]


steps = 0


def loss(output, batch):
    global steps
    steps += 1
    if steps == int(os.environ.get("KILL_AT", 0)):
        os.kill(os.getpid(), signal.SIGKILL)
    return (output.mean() - torch.rand(())).square()


def score(model):
    with torch.no_grad():
        return -float(model(torch.ones(1, 2, 8, 8)).square().mean())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("kill_at", [2, 8])
def test_the_same_command_goes_on_after_it_was_killed(kill_at: int, tmp_path: Path) -> None:
    def command(folder: str, kill: int = 0) -> subprocess.CompletedProcess[str]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "nets.py").write_text(NETS)
        words = "torch finetune --model nets:build --data nets:batches --eval nets:score --loss nets:loss --epochs 4"
        words += " --learn-amax --average 0.9 --seed 3 --rate 1e-3 --save-ptq ptq.pt --save-qat qat.pt -o qat.onnx"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "KILL_AT": str(kill)}
        run = [sys.executable, "-W", "ignore", "-m", "qdqgraph", *words.split()]
        return subprocess.run(run, cwd=tmp_path / folder, env=environment, capture_output=True, text=True, timeout=300)

    assert command("whole").returncode == 0
    assert command("cut", kill_at).returncode in (128 + signal.SIGKILL, -signal.SIGKILL)  # the latter without a child
    assert (tmp_path / "cut" / "qat.training.pt").exists() and not (tmp_path / "cut" / "qat.onnx").exists()
    left = {p.name for p in (tmp_path / "cut").iterdir()}
    assert left >= {"ptq.pt", "qat.pt"}
    second = command("cut")
    assert second.returncode == 0, second.stderr
    assert f"goes on after epoch {(kill_at - 1) // 3} of 4" in second.stderr + second.stdout
    for name in ("qat.onnx",):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    states = [torch.load(tmp_path / folder / "qat.pt")["state"] for folder in ("whole", "cut")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())
    assert not (tmp_path / "cut" / "qat.training.pt").exists()

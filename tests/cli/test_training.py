"""`qdqgraph torch finetune`: the loss of the task, how it trains, and what is refused before it begins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from qdqgraph.cli.main import main

NETS = """
import torch
from tests.support.detectors import LossDetector, pictures


def build():
    torch.manual_seed(0)
    return LossDetector()


def batches():
    return pictures()


def loss(model, batch):
    found = model(batch["image"], batch["boxes"])
    return found["box"] + found["score"]


def of_output(output, batch):
    return output[1][0].square().mean()


def broken(output, batch):
    return batch["labels"]


def never():
    raise LookupError("the user's code runs")
"""
WORDS = ["torch", "finetune", "--data", "mynets:batches", "-o", "net.onnx"]
BUILD = [*WORDS, "--model", "mynets:build", "--epochs", "2", "--rate", "1e-3"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mynets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mynets", None)
    yield
    sys.modules.pop("mynets", None)


def test_a_detector_is_trained_with_its_own_loss_and_exported(capsys: pytest.CaptureFixture[str]) -> None:
    found: list[tuple[str, float]] = []
    hook = register_optimizer_step_post_hook(
        lambda o, *_: found.append((type(o).__name__, o.param_groups[0]["momentum"]))
    )
    words = "--loss mynets:loss --distillation 0.1 --optimizer SGD --optimizer-arg momentum=0.8 --schedule StepLR"
    words += " --schedule-arg step_size=1 --learn-amax --average 0.9 --precision bfloat16 --seed 1 --clip 0"
    try:
        assert main([*BUILD, *words.split()]) == 0
    finally:
        hook.remove()
    out = capsys.readouterr().out
    assert set(found) == {("SGD", 0.8)} and len(found) == 8
    assert "epoch 2 of 2: loss" in out and "net.onnx: 0 findings" in out
    assert {p.name for p in Path().iterdir()} - {"__pycache__"} == {"mynets.py", "net.onnx"}
    assert main([*BUILD, "--loss", "mynets:of_output", "--mode", "eval", "--output-weight", "0", "--force"]) == 0


def test_errors_of_the_loss_are_the_users_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BUILD, "--loss", "mynets:broken", "--mode", "eval"]) == 2
    err = capsys.readouterr().err
    assert "mynets:broken failed with the KeyError above" in err and 'return batch["labels"]' in err
    assert main([*BUILD, "--loss", "mynets:lost", "--mode", "eval", "--restart"]) == 2
    assert "has no 'lost'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--optimizer Adams", "there is no optimizer 'Adams'"),
        ("--optimizer-arg beta=3", "optimizer AdamW has no argument 'beta'"),
        ("--optimizer-arg beta", "'beta' is not NAME=VALUE"),
        ("--schedule StepLR", "schedule StepLR needs the argument 'step_size'"),
        ("--average 2", "'2' is not a number above 0 and below 1"),
        ("--distillation 0 --output-weight 0", "there is nothing to train with"),
        ("--amax-rate 1e-3", "amax_rate has no effect without learn_amax"),
        ("--resume net.onnx", "net.onnx would be written twice"),
        ("--force-load", "--force-load has no effect without --load"),
    ],
)
def test_what_cannot_work_is_refused_before_the_users_code_runs(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main([*WORDS, "--model", "mynets:never", *words.split()])
    except SystemExit as left:
        code = int(str(left.code))
    assert code == 2 and message in capsys.readouterr().err


def test_an_interrupted_run_of_other_settings_is_refused_and_can_be_begun_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*BUILD, "--loss", "mynets:broken", "--mode", "eval"]) == 2
    assert Path("net.training.pt").exists()
    capsys.readouterr()
    other = [*WORDS, "--model", "mynets:never", "--epochs", "2", "--rate", "1e-2", "--loss", "mynets:broken"]
    assert main(other) == 2
    assert (
        "net.training.pt: this is the checkpoint of another training run, which differs in rate"
        in capsys.readouterr().err
    )
    assert main([*BUILD, "--restart"]) == 0
    assert "goes on" not in capsys.readouterr().out and not Path("net.training.pt").exists()


def test_a_file_that_is_no_checkpoint_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"version": 3}, "run.pt")
    assert main([*WORDS, "--model", "mynets:never", "--resume", "run.pt"]) == 2
    assert "run.pt: this is a saved state, not the checkpoint of a training run" in capsys.readouterr().err

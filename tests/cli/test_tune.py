"""`qdqgraph tune`: what it writes, that a killed search goes on, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("optuna")

from qdqgraph import api
from qdqgraph.cli.main import main
from qdqgraph.errors import ModelError
from tests.support.models import build
from tests.support.paths import ROOT
from tests.support.searching import MODEL, samples

COMMAND = ["tune", "model.onnx", "--data", "data.npz", "--trials", "8", "--no-config"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(build(MODEL), "model.onnx")
    np.savez("data.npz", x=np.concatenate([sample["x"] for sample in samples()]))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_command_writes_model_plan_and_picture_and_the_same_command_measures_nothing_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*COMMAND, "-o", "out.onnx", "--plan", "plan.json", "--picture", "front.svg"]) == 0
    text = capsys.readouterr().out
    assert "no slower than the repaired model, the best quality" in text and "Front, fastest first" in text
    assert Path("front.svg").read_text(encoding="utf-8").startswith("<svg")
    model = Path("out.onnx").read_bytes()
    assert main(["undo", "plan.json", "out.onnx", "-o", "back.onnx"]) == 0
    assert onnx.load("back.onnx") == onnx.load("model.onnx")
    capsys.readouterr()
    assert main(["tune", "model.onnx", "--status", "-o", "out.onnx"]) == 0
    status = capsys.readouterr().out
    assert "0 started, 0 waiting" in status and "Front so far" in status
    assert main([*COMMAND, "-o", "out.onnx", "--force", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert Path("out.onnx").read_bytes() == model
    assert main(["tune", "model.onnx", "--status", "-o", "out.onnx"]) == 0
    assert capsys.readouterr().out == status
    assert outcome["chosen"]["found"]["ms"] <= outcome["base"]["found"]["ms"]


def test_a_killed_search_goes_on_and_workers_find_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "-o", "alone.onnx", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    command = [sys.executable, "-m", "qdqgraph", *COMMAND, "--storage", f"sqlite:///{folder / 'shared.db'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while time.monotonic() < end and first.poll() is None:
        try:
            if api.tune_status(f"sqlite:///{folder / 'shared.db'}").measured >= 3:
                break
        except ModelError:
            time.sleep(0.2)
    first.kill()
    first.wait()
    assert not (folder / "killed.onnx").exists()
    again = subprocess.run(
        [*command, "-o", "killed.onnx", "--workers", "2", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (folder / "killed.onnx").read_bytes() == (folder / "alone.onnx").read_bytes()
    assert json.loads(again.stdout)["front"] == alone["front"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget-db", "900"], "no candidate has at least 900 dB"),
        (["--max-drop", "1"], "a drop of the score needs the function that scores: give --eval"),
        (["--samples", "3"], "the data have 3 samples; the search needs 4"),
        (["--device", "h900"], "unknown device 'h900'"),
        (["-o", "model.onnx"], "model.onnx is the model that is read, and its original would be lost"),
        (["-o", "."], ". is a folder; give a file name"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("model.onnx").read_bytes()
    assert main([*COMMAND, "--trials", "0", *options]) == 2
    assert message in capsys.readouterr().err
    assert Path("model.onnx").read_bytes() == before and not list(Path().glob("*out*"))


@pytest.mark.usefixtures("folder")
def test_a_status_without_a_search_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "model.onnx", "--status"]) == 2
    assert "has no search" in capsys.readouterr().err

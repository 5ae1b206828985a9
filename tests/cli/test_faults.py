"""Calibration that is interrupted, killed, out of disk space, or given the wrong data: a sentence, and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

from qdqgraph.cli.main import main
from tests.support.models import build
from tests.support.paths import ROOT

MODEL = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"
OTHER = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { b = Sigmoid (x) y = t.conv4 (b, s1) }"
OLD = b"the result of an earlier run"
DATA = """
import os, signal
import numpy as np
passes = 0

def samples():
    global passes
    passes += 1
    for index in range(8):
        if (passes, index) == ({at}):
            {event}
        yield np.full((1, 4, 8, 8), index / 8, np.float32)
"""
AT_THE_CHECK = """
import signal, os, sys
import onnx
def check(path):
    os.kill(os.getpid(), signal.{name})
onnx.checker.check_model = check
"""
WHILE_SAVING = """
import signal, os
import numpy as np
def save(file, **arrays):
    file.write(b"half of it")
    file.flush()
    os.kill(os.getpid(), signal.{name})
np.savez_compressed = save
"""
ENTRY = "\nfrom qdqgraph.cli import entry\nentry()\n"
MEASURING, COMPARING = "1, 3", "2, 3"
"""Pass over the data, and sample, while the float network is measured and while layers are compared."""


def place(folder: Path, at: str = "0, 0", event: str = "pass") -> list[str]:
    """The files of a run in a folder, with results of an earlier run; returns the arguments."""
    onnx.save(build(MODEL), folder / "model.onnx")
    (folder / "data.py").write_text(DATA.format(at=at, event=event))
    for name in ("out.onnx", "plan.json"):
        (folder / name).write_bytes(OLD)
    names = ["model.onnx", "-o", "out.onnx", "--plan", "plan.json", "--force", "--statistics", "s.npz", "--no-config"]
    return ["fix", *names, "--data", "data.py:samples"]


def process(
    folder: Path, arguments: list[str], before: str = "", limit: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own, after other code."""
    return subprocess.run(
        [sys.executable, "-c", before + ENTRY, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=limit,
        check=False,
    )


def untouched(folder: Path, *more: str) -> bool:
    """Whether the earlier results are as they were, and no file is there beside these and `more`."""
    names = {"model.onnx", "data.py", "out.onnx", "plan.json", "__pycache__", *more}
    kept = all((folder / name).read_bytes() == OLD for name in ("out.onnx", "plan.json"))
    return kept and {path.name for path in folder.iterdir()} <= names


@pytest.mark.parametrize(
    ("at", "name", "code", "said"),
    [
        (MEASURING, "SIGINT", 130, "qdqgraph: interrupted, nothing was written\n"),
        (MEASURING, "SIGTERM", 143, "qdqgraph: terminated, nothing was written\n"),
        (COMPARING, "SIGINT", 130, "qdqgraph: interrupted, written so far: s.npz\n"),
    ],
)
def test_a_signal_during_the_measurement_loses_nothing(
    tmp_path: Path, at: str, name: str, code: int, said: str
) -> None:
    done = process(tmp_path, place(tmp_path, at, f"os.kill(os.getpid(), signal.{name})"))
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")
    assert untouched(tmp_path, *(["s.npz"] if at == COMPARING else []))


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_the_model_is_written_leaves_the_old_one(tmp_path: Path, name: str, code: int) -> None:
    done = process(tmp_path, place(tmp_path), AT_THE_CHECK.format(name=name))
    assert done.returncode == code
    assert done.stderr.endswith("written so far: s.npz\n") and untouched(tmp_path, "s.npz")


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGKILL", 137), ("SIGSEGV", 3)])
def test_a_signal_while_the_statistics_are_written_leaves_none(tmp_path: Path, name: str, code: int) -> None:
    done = process(tmp_path, place(tmp_path), WHILE_SAVING.format(name=name))
    assert done.returncode == code and "nothing was written" in done.stderr and untouched(tmp_path)


@pytest.mark.parametrize("step", ["s.npz", "plan.json", "out.onnx"])
def test_a_full_disk_at_each_file_in_turn(tmp_path: Path, step: str) -> None:
    arguments = place(tmp_path)
    assert process(tmp_path, arguments).returncode == 0
    sizes = {name: (tmp_path / name).stat().st_size for name in ("s.npz", "plan.json", "out.onnx")}
    kept = ["s.npz"]
    if step == "s.npz":
        (tmp_path / "s.npz").unlink()
        kept = []
    elif step == "out.onnx":
        arguments = [a for a in arguments if a not in ("--plan", "plan.json")]
    place(tmp_path)
    room = sizes[step] - 1
    done = process(
        tmp_path, arguments, limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    )
    assert done.returncode == 2
    assert f"qdqgraph: {step}: cannot be written: File too large" in done.stderr
    assert done.stderr.count("\n") == 1 and untouched(tmp_path, *kept)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The only line on stderr of a run that is refused."""
    assert main(["fix", "model.onnx", "-o", "new.onnx", "--no-config", *arguments]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("qdqgraph: ")]
    assert not Path("new.onnx").exists()
    return line


ONES = np.ones((8, 4, 8, 8), np.float32)


def test_data_of_another_network_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place(tmp_path)
    np.savez("names.npz", pixels=ONES)
    np.savez("shapes.npz", x=np.ones((8, 3, 8, 8), np.float32))
    np.savez("types.npz", x=np.full((8, 4, 8, 8), "text"))
    holes = ONES.copy()
    holes[6, 0, 0, 0] = np.nan
    np.savez("nan.npz", x=holes)
    np.savez("good.npz", x=ONES)
    assert "names.npz" in said(capsys, "--data", "names.npz")
    assert "shapes.npz" in said(capsys, "--data", "shapes.npz")
    assert "types.npz" in said(capsys, "--data", "types.npz")
    assert "nan.npz" in (line := said(capsys, "--data", "nan.npz")) and "NaN" in line
    assert "good.npz: 8 samples, and 9 were asked for" in said(capsys, "--data", "good.npz", "--samples", "9")
    Path("data.py").write_text(DATA.format(at=MEASURING, event="raise OSError('the disk is gone')"))
    assert "--data data.py:samples failed with the OSError above" in said(capsys, "--data", "data.py:samples")


def test_a_picture_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    onnx.save(build("g (float[1,3,8,8] x) => (float[1,3,8,8] y) { a = Relu (x) y = t.pair (a, s1) }"), "model.onnx")
    Path("photos").mkdir()
    for index in range(5):
        image.new("RGB", (8, 8), (index, 0, 0)).save(f"photos/{index}.png")
    Path("photos/2.png").write_bytes(Path("photos/2.png").read_bytes()[:40])
    assert "2.png" in said(capsys, "--data", "photos", "--preprocess", "unit")


def test_statistics_that_do_not_fit_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place(tmp_path)
    np.savez("data.npz", x=ONES)
    np.savez("other.npz", x=0 * ONES)
    asked = ("--data", "data.npz", "--statistics", "s.npz")
    assert main(["fix", "model.onnx", "-o", "first.onnx", "--no-config", *asked]) == 0
    whole = Path("s.npz").read_bytes()
    assert "s.npz: these statistics are of other samples" in said(capsys, "--data", "other.npz", *asked[2:])
    onnx.save(build(OTHER), "model.onnx")
    assert "s.npz: these statistics are of another network" in said(capsys, *asked)
    onnx.save(build(MODEL), "model.onnx")
    for damaged, fault in (
        (whole[: len(whole) // 2], "not a file of statistics, or damaged; measure again"),
        (b"text", "this is a text file, not a file of statistics"),
        (b"", "this is an empty file, not a file of statistics"),
    ):
        Path("s.npz").write_bytes(damaged)
        assert f"s.npz: {fault}" in said(capsys, *asked)
        assert Path("s.npz").read_bytes() == damaged
    Path("s.npz").write_bytes(whole)
    with np.load("s.npz") as file:
        parts = dict(file)
    header = json.loads(parts["header"].tobytes()) | {"format": 99}
    np.savez("s.npz", **(parts | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}))
    assert "s.npz: statistics of format 99, and this version of qdqgraph reads 1" in said(capsys, *asked)
    assert "no/s.npz: folder no does not exist" in said(capsys, "--data", "data.npz", "--statistics", "no/s.npz")


def test_the_calibration_says_that_it_ran_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.chdir(tmp_path)
    place(tmp_path)
    np.savez("data.npz", x=ONES)
    cuda = ["--data", "data.npz", "--provider", "cuda", "--no-config"]
    assert main(["fix", "model.onnx", "--dry-run", "--no-numerics", *cuda]) == 0
    absent = "onnxruntime has no CUDAExecutionProvider here; "
    assert absent + "the calibration ran on the CPU" in " ".join(capsys.readouterr().err.split())
    assert main(["error", "model.onnx", *cuda]) == 0
    assert absent + "the comparison of the layers ran on the CPU" in " ".join(capsys.readouterr().err.split())

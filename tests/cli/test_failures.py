"""The last resort and signals: one sentence, the right exit code, no child left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from operator import attrgetter
from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph.cli.main import main
from tests.support.models import build
from tests.support.paths import ROOT

MODEL = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Relu (x) y = t.conv4 (a, s1) }"
SLOW = "import time, sys\nsys.modules.pop('onnx', None)\nopen({ready!r}, 'w').close()\ntime.sleep(30)\n"


def broken(graph: object) -> None:
    raise KeyError("no such thing")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(build(MODEL), path)
    return path


def test_a_defect_exits_with_3_and_one_sentence(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qdqgraph.graph.graph.validate", broken)
    assert main(["check", str(model), "--no-config"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("qdqgraph: internal error while ") and said.count("\n") == 1
    assert str(model) in said and "KeyError: 'no such thing'" in said and "--traceback" in said


@pytest.mark.parametrize("how", ["option", "variable"])
def test_the_traceback_on_request(
    how: str, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qdqgraph.graph.graph.validate", broken)
    if how == "variable":
        monkeypatch.setenv("QDQGRAPH_TRACEBACK", "1")
    assert main(["check", str(model), "--no-config", *(["--traceback"] if how == "option" else [])]) == 3
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_the_api_raises_an_internal_error_with_its_cause(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qdqgraph.graph.graph.validate", attrgetter("nothing"))
    with pytest.raises(qdqgraph.QdqgraphError, match="internal error") as found:
        qdqgraph.fix(model)
    assert isinstance(found.value.__cause__, AttributeError)


def test_an_error_of_the_callers_code_passes_unchanged(model: Path) -> None:
    def stop(step: str) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        qdqgraph.fix(model, progress=stop)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_during_the_imports_gets_one_sentence(name: str, code: int, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    (tmp_path / "onnx.py").write_text(SLOW.format(ready=str(ready)))
    run = "import sys; sys.argv = ['qdqgraph', 'check', 'x']; from qdqgraph.__main__ import start; start()"
    with subprocess.Popen(
        [sys.executable, "-c", run],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        ends = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < ends:
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=30)
    word = "interrupted" if name == "SIGINT" else "terminated"
    assert (process.returncode, said) == (code, f"qdqgraph: {word}, nothing was written\n")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends children only on Linux")
def test_a_child_ends_with_its_parent() -> None:
    code = (
        "import subprocess, sys, time\nfrom qdqgraph.children import ends_with_us\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True, preexec_fn=ends_with_us())\n"
        "print(child.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child is alive")

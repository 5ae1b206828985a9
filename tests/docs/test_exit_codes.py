"""The exit codes in docs/commands.md are those of the program, for every command."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph.cli.main import main, parser
from tests.support.models import build
from tests.support.paths import DATA, ROOT

TABLE = re.findall(
    r"^\| ([\d+N ]+) \| (.*?) \| (.*?) \|$", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE
)
TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"
CLEAN = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"
FLOAT = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,1,1,1] w = {1, 2, 3, 4}> { y = Conv <group = 4> (x, w) }"
LEFT = """g (float[1,4,8,8] x) => (float[1,8,8,8] w) <float big = {0.5}> {
    a = Relu (x) c = t.conv4 (x, s4) p = t.pair (c, s1) e = Concat <axis = 1> (c, a) w = t.pair (e, big) }"""
"""The guard refuses the tie of the Concat."""
TWO = """g (float[1,4,8,8] x) => (float[1,8,8,8] y)
    <float[4,1,1,1] w = {1, 2, 3, 4}, float[4,1,1,1] v = {0.001, 0.001, 0.002, 0.001}, float[8,1,1,1] u = {1, 1, 1, 1, 1, 1, 1, 1}> {
    a = Conv <group = 4> (x, w) b = Conv <group = 4> (x, v) c = Concat <axis = 1> (a, b) y = Conv <group = 8> (c, u) }"""
"""A float network with the same: one side of its Concat has values a thousand times smaller."""
A, B = "qat-residual.graph.json", "qat.graph.json"
SAMPLES = "--data data.npz"


@dataclass(frozen=True)
class Case:
    """A command with arguments for each exit code.

    Attributes:
        good: ends with 0; None for commands that tests/search and tests/torch run.
        bad: ends with 2.
        told: ends with 1; "" if the command never does.
        needs: the packages of `good`.
    """

    good: str | None
    bad: str
    told: str = ""
    needs: tuple[str, ...] = ()


CASES = {
    "apply": Case("plan.json twice.onnx -o 1.onnx", "plan.json clean.onnx -o 2.onnx"),
    "check": Case("clean.onnx", "float.onnx", "clean.onnx twice.onnx"),
    "completion": Case("bash", "none"),
    "diff": Case("clean.onnx clean.onnx", "clean.onnx none.onnx", "clean.onnx twice.onnx"),
    "draw": Case("clean.onnx -o 3.svg", "clean.onnx -o 3.png"),
    "engine build": Case("clean.onnx --with tensorrt-rtx", "none.onnx --with tensorrt-rtx", needs=("tensorrt_rtx",)),
    "engine diff": Case(f"{B} {A}", f"{A} none.json", f"{A} {B}"),
    "engine draw": Case(f"{A} -o 4.svg", f"{A} -o 4.png"),
    "engine forecast": Case("clean.onnx", "none.onnx"),
    "engine read": Case(A, "none.json"),
    "engine time": Case(A, "none.json"),
    "error": Case(f"clean.onnx {SAMPLES}", f"float.onnx {SAMPLES}", needs=("onnxruntime",)),
    "explain": Case("QDQ101", "QDQ100"),
    "fix": Case(
        "twice.onnx -o 5.onnx --no-numerics --exit-non-zero-if-left",
        "float.onnx -o 6.onnx --no-numerics",
        "left.onnx --dry-run --no-numerics --exit-non-zero-if-left",
    ),
    "quantize": Case(
        f"float.onnx -o 7.onnx {SAMPLES}",
        f"clean.onnx -o 8.onnx {SAMPLES}",
        f"two.onnx --dry-run {SAMPLES} --exit-non-zero-if-left",
        needs=("onnxruntime",),
    ),
    "report": Case("clean.onnx -o 11.html", "none.onnx -o 12.html"),
    "rules list": Case("", "--rules none.toml"),
    "rules new": Case("my-rule --code MY103", "my-rule --code QDQ101"),
    "rules pages": Case("right_rule.toml -o pages", "none.toml -o pages"),
    "rules test": Case("right_rule.toml", "none.toml", "wrong_rule.toml"),
    "sensitivity": Case(f"clean.onnx {SAMPLES}", f"float.onnx {SAMPLES}", needs=("onnxruntime",)),
    "strip": Case("clean.onnx --nodes * -o 9.onnx", "clean.onnx --nodes none -o 10.onnx"),
    "torch finetune": Case(None, "--model none:f --data none:g --eval none:h -o a.onnx"),
    "torch quantize": Case(None, "--model none:f --data none:g -o a.onnx"),
    "torch sensitivity": Case(None, "--model none:f --data none:g --eval none:h -o a.json"),
    "tune": Case(None, f"clean.onnx {SAMPLES} --eval none:f"),
    "undo": Case("plan.json fixed.onnx -o 11.onnx", "plan.json clean.onnx -o 12.onnx"),
    "why": Case("QDQ104 twice.onnx --at x", "QDQ104 twice.onnx --at none", "QDQ104 clean.onnx --at x"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models")
    for name, text in (("twice", TWICE), ("clean", CLEAN), ("float", FLOAT), ("left", LEFT), ("two", TWO)):
        onnx.save(build(text), found / f"{name}.onnx")
    np.savez(found / "data.npz", x=np.random.default_rng(0).normal(0, 3, (4, 4, 8, 8)).astype(np.float32))
    for name in (A, B):
        shutil.copy(DATA / name, found)
    fix = ["fix", str(found / "twice.onnx"), "-o", str(found / "fixed.onnx"), "--no-numerics", "--no-config"]
    assert main([*fix, "--plan", str(found / "plan.json")]) == 0
    for name, code in (("right-rule", "MY101"), ("wrong-rule", "MY102")):
        assert main(["rules", "new", name, "--code", code, "--folder", str(found)]) == 0
    wrong = found / "wrong_rule.toml"
    wrong.write_text(wrong.read_text().replace("i = Identity (d)", "i = Relu (d)"))
    return found


def commands(verb: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[str]:
    """All commands, in words."""
    inner = [action for action in verb._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield " ".join(words)
    for action in inner:
        for name, each in action.choices.items():
            yield from commands(each, (*words, name))


def ended(command: str, arguments: str) -> int:
    """The exit code of a command."""
    try:
        return main([*command.split(), *arguments.split()])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def test_every_command_is_tried_and_those_that_return_1_are_listed() -> None:
    assert set(CASES) == set(commands(parser()))
    listed = [command for code, _, named in TABLE if code == "1" for command in re.findall("`(.*?)`", named)]
    assert sorted(listed) == sorted(command for command, case in CASES.items() if case.told)
    assert {code for code, _, named in TABLE if named == "all"} == {"0", "2", "3", "128 + N"}


@pytest.mark.parametrize("command", CASES)
def test_a_command_ends_as_the_table_says(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    case = CASES[command]
    for package in case.needs:
        pytest.importorskip(package)
    if case.good is not None:
        assert ended(command, case.good) == 0
    if case.told:
        assert ended(command, case.told) == 1
    capsys.readouterr()
    files = sorted(folder.rglob("*"))
    assert ended(command, case.bad) == 2
    assert capsys.readouterr().err.count("qdqgraph:") == 1 and sorted(folder.rglob("*")) == files
    assert ended(command, f"{case.bad} --no-such-option") == 2


def test_the_signals_of_the_table_have_their_numbers() -> None:
    """What the program does on each is tried in tests/cli/test_failures."""
    (text,) = [text for code, text, _ in TABLE if code == "128 + N"]
    names = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP, "closed pipe": signal.SIGPIPE}
    names["SIGKILL"] = signal.SIGKILL
    found = {name: int(number) for number, name in re.findall(r"(\d{3}) (closed pipe|[\w-]+)", text)}
    assert found == {name: 128 + number for name, number in names.items()}


def test_a_closed_pipe_ends_with_141() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "qdqgraph", "explain", "QDQ101", "--no-config"]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")

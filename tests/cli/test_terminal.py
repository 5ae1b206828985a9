"""What a terminal gets and what a pipe gets; how little --version, --help and completion load; completion scripts."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.text import Text

from qdqgraph.cli.console import terminal
from qdqgraph.cli.main import main, parser
from qdqgraph.cli.parsers import Parser
from qdqgraph.report.lines import say
from tests.support.cases import read
from tests.support.commands import all_commands
from tests.support.models import build
from tests.support.paths import ROOT

HEAVY = ("numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "torch", "rich", "google.protobuf")
MODEL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
    a = Relu (x)  b = t.conv4 (a, s1)  c = Tanh (b)  y = t.conv4 (c, s1) }"""
ESCAPE = "\x1b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(build(MODEL), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((6, 4, 8, 8), np.float32))
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **more}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "qdqgraph", *words]


def on_terminal(
    words: list[str], folder: Path, *, columns: int = 80, piped: bool = False, **more: str
) -> tuple[str, str]:
    """Runs a command in a terminal of this width; returns what the terminal got, and what a pipe at stdout got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    stdout = subprocess.PIPE if piped else theirs
    process = subprocess.Popen(
        command(*words), cwd=folder, stdin=theirs, stdout=stdout, stderr=theirs, env=environment(**more)
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    out = process.communicate()[0] or b""
    assert process.returncode in (0, 1), shown
    return shown.decode(), out.decode()


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["check", "--help"], ["fix", "--help"], ["torch", "quantize", "--help"],
              ["engine", "build", "--help"], ["completion", "bash"]], ids=" ".join
)  # fmt: skip
def test_what_only_prints_loads_no_library(words: list[str]) -> None:
    code = (
        "import sys\nfrom qdqgraph.cli.main import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout and done.stderr.strip() == ""


def test_version_and_help_are_fast() -> None:
    """0.1 s on an idle core; the bound is for a loaded machine. With the libraries it is 1.5 s of CPU and more."""
    for words in (["--version"], ["--help"]):
        spent = []
        for _ in range(3):
            before = os.times()
            subprocess.run(command(*words), check=True, capture_output=True, env=environment())
            after = os.times()
            spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert min(spent) < 0.5


def test_a_pipe_gets_plain_lines_and_no_progress(folder: Path) -> None:
    words = ["error", "model.onnx", "--data", "data.npz", "--no-packs"]
    done = subprocess.run(command(*words), cwd=folder, capture_output=True, text=True, env=environment(), check=True)
    assert ESCAPE not in done.stdout + done.stderr and "\r" not in done.stdout + done.stderr
    assert "sample" not in done.stderr


def test_a_terminal_gets_progress_with_counts_on_stderr_alone(folder: Path) -> None:
    words = ["error", "model.onnx", "--data", "data.npz", "--samples", "6", "--json", "--no-packs"]
    shown, out = on_terminal(words, folder, piped=True)
    assert ESCAPE in shown and re.search(r"sample \d+ of 6", shown)
    assert json.loads(out)["samples"] == 6


def test_progress_is_only_for_terminals_whatever_force_color_says(folder: Path) -> None:
    words = ["error", "model.onnx", "--data", "data.npz", "--no-packs"]
    env = environment(FORCE_COLOR="1")
    done = subprocess.run(command(*words), cwd=folder, capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    shown, _ = on_terminal([*words, "--json"], folder, piped=True, TERM="dumb")
    assert shown == ""


@pytest.mark.parametrize(
    ("where", "variables", "styled"),
    [
        ("terminal", {}, True),
        ("terminal", {"NO_COLOR": "1"}, False),
        ("terminal", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ("terminal", {"TERM": "dumb"}, False),
        ("pipe", {}, False),
        ("pipe", {"FORCE_COLOR": "1"}, True),
        ("pipe", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_styles(where: str, variables: dict[str, str], styled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty() if where == "terminal" else os.pipe()
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        console = terminal()
        say(console, Text("a finding", "bold red"))
        assert console.width == (80 if where == "terminal" else 200)
        stream.flush()
        shown = os.read(ours, 1000).decode()
        monkeypatch.undo()
    os.close(ours)
    assert (ESCAPE in shown) == styled and "a finding" in shown


@pytest.mark.parametrize("columns", [80, 200])
def test_tables_and_help_fit_the_width_and_cut_no_number(folder: Path, columns: int) -> None:
    words = ["error", "model.onnx", "--data", "data.npz", "--no-packs"]
    shown, _ = on_terminal(words, folder, columns=columns, NO_COLOR="1")
    table = shown.partition("Errors of layers")[2].partition("model.onnx: ")[0]
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\r") for line in table.split("\n")[1:]]
    assert lines and max(map(len, lines)) <= columns
    assert "…" not in table
    shown, _ = on_terminal(["fix", "--help"], folder, columns=columns)
    usual = [line for line in shown.splitlines() if not line.startswith("  qdqgraph ")]  # examples stay whole
    assert max(map(len, usual)) <= columns
    assert columns == 80 or max(map(len, usual)) > 80


@pytest.mark.parametrize("found", list(all_commands(parser())), ids=lambda found: found.prog)
def test_help_of_every_command(found: Parser) -> None:
    """Each argument has help, each command an example of itself; test_words has that its parser reads them."""
    for action in found._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help and "\n" not in action.help and not action.help.endswith("."), action.dest
    if " " in found.prog:
        examples = (found.epilog or "").splitlines()[1:]
        assert examples and all(f"{example} ".startswith(f"  {found.prog} ") for example in examples)
    shown = found.format_help()
    for action in found._actions:
        if action.option_strings and action.nargs != 0 and action.default not in (None, argparse.SUPPRESS, "", (), []):
            assert "default" in " ".join(shown.split()).partition(action.option_strings[-1])[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_parse_and_have_commands_and_choices(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("quantize", "max-bits-lost", "trt-8.6", "tensorrt-rtx", "onnx"):
        assert word in script
    file = tmp_path / "script"
    file.write_text(script)
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n", str(file)], check=True)


def test_bash_completes_commands_options_choices_and_models(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    assert main(["completion", "bash"]) == 0
    (folder / "script").write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        function = "_shtab_qdqgraph"
        code = (
            f'source ./script; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE="${{COMP_WORDS[*]}}"; '
            f"COMP_POINT=${{#COMP_LINE}}; {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run(["bash", "-c", code], cwd=folder, capture_output=True, text=True)
        return set(done.stdout.split())

    assert {"check", "fix", "quantize"} <= completed("qdqgraph", "")
    assert completed("qdqgraph", "qua") == {"quantize"}
    assert "--max-bits-lost" in completed("qdqgraph", "fix", "--max")
    assert {"trt-10", "trt-8.6"} <= completed("qdqgraph", "check", "--target", "")
    assert completed("qdqgraph", "check", "mod") == {"model.onnx"}


def test_warnings_of_libraries_are_not_on_stdout(folder: Path) -> None:
    """onnx-graphsurgeon prints a warning for FP8 and BF16, which NumPy lacks."""
    for case in ("03-fp8-weight-half-scale", "31-bf16"):
        onnx.save(read(ROOT / "tests" / "cases" / f"{case}.onnxtxt").model, folder / "case.onnx")
        words = ["fix", "case.onnx", "--dry-run", "--json", "--no-numerics", "--no-packs"]
        done = subprocess.run(
            command(*words), cwd=folder, capture_output=True, text=True, env=environment(), check=True
        )
        assert json.loads(done.stdout)["schema"]


def test_a_closed_pipe_ends_quietly(folder: Path) -> None:
    with subprocess.Popen(
        command("rules", "list"), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141


def test_control_c_on_a_terminal_leaves_one_sentence(folder: Path) -> None:
    (folder / "slow.py").write_text(
        "import time\ndef samples():\n    open('asked', 'w').close()\n    time.sleep(60)\n    yield {}\n"
    )
    ours, theirs = pty.openpty()
    words = command("error", "model.onnx", "--data", "slow.py:samples", "--no-packs")
    process = subprocess.Popen(
        words, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), start_new_session=True
    )
    os.close(theirs)
    shown, end = b"", time.monotonic() + 60
    while b"reading" not in shown and time.monotonic() < end:
        shown += os.read(ours, 65536)
    while not (folder / "asked").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(2)
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 130
    assert shown.decode().count("qdqgraph: interrupted") == 1 and b"Traceback" not in shown

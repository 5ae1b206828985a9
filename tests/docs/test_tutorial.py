"""The tutorial is run in an empty folder beside a clone: its files are written, its commands executed, its outputs
compared up to numbers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qdqgraph.rulekit.text.predicates import PREDICATES
from tests.support.documents import blocks
from tests.support.pages import commands, pattern
from tests.support.paths import ROOT

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("pytorch_quantization")

PROGRAMS = {"qdqgraph": f'"{sys.executable}" -m qdqgraph', "python": f'"{sys.executable}"'}
"""The programs that the page's installation puts on the PATH."""
MEASURED = r"\d+\.\d+"
"""Scales, bits and dB, which differ between CPUs; counts and bytes are those of the page."""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clone in it, where the package is installed."""
    (tmp_path / "qdqgraph").symlink_to(ROOT, target_is_directory=True)
    for name, command in PROGRAMS.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("COLUMNS", "FORCE_COLOR", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_tutorial_does_what_it_says(beside: Path) -> None:
    """A shell runs the page in an empty folder beside a clone; what it prints is what the page shows."""
    settings = (ROOT / "pyproject.toml").read_bytes()
    folder, ran = beside, 0
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        if block.name:
            (folder / block.name).write_text(block.body, encoding="utf-8")
        for line in block.body.splitlines() if block.kind == "sh" else ():
            if not line.startswith("pip "):
                folder = Path(_shell(f"{line} && pwd", folder).splitlines()[-1])
        for line, expected in commands(block.body) if block.kind == "console" else ():
            out = _shell(line, folder)
            assert re.fullmatch(pattern(expected, MEASURED), out, re.DOTALL), f"{line}\n{out}"
            ran += 1
    assert ran >= 12 and folder == beside / "tutorial"
    assert (ROOT / "pyproject.toml").read_bytes() == settings


def _shell(line: str, folder: Path) -> str:
    """What a command prints, without blanks at the ends of lines; it may fail as `check` does. Warnings of `qdqgraph` count
    as output, those of torch do not."""
    both = subprocess.STDOUT if line.startswith("qdqgraph") else subprocess.PIPE
    run = subprocess.run(["bash", "-c", line], cwd=folder, stdout=subprocess.PIPE, stderr=both, text=True, check=False)
    assert run.returncode in (0, 1) and "Traceback" not in run.stdout, f"{line}\n{run.stdout}\n{run.stderr}"
    return "".join(f"{part.rstrip()}\n" for part in run.stdout.splitlines())


def test_the_reference_lists_every_condition() -> None:
    text = (ROOT / "docs" / "writing-rules.md").read_text(encoding="utf-8")
    for predicate in PREDICATES.values():
        assert re.search(rf"^\| `{re.escape(predicate.example)}` \| {re.escape(predicate.meaning)}", text, re.MULTILINE)


def test_the_reference_lists_every_key() -> None:
    import json

    from qdqgraph.rulekit.text import SCHEMA

    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("writing-rules.md", "tutorial.md"))
    keys = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]
    assert [key for key in keys if not re.search(rf"\b{key}\b", text)] == ["when_not"]

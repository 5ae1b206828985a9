"""The tutorial is run: its files are written, its commands executed, its outputs compared up to numbers."""

import os
import re
import shlex
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

PROGRAMS = {"qdqgraph": [sys.executable, "-m", "qdqgraph"], "python": [sys.executable]}
ELSEWHERE = {"samples/export.py": str(ROOT / "samples" / "export.py")}


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = 0
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        assert not block.reason
        if block.name:
            (tmp_path / block.name).parent.mkdir(exist_ok=True)
            (tmp_path / block.name).write_text(block.body, encoding="utf-8")
        for line, expected in commands(block.body) if block.kind == "console" else ():
            program, *words = (ELSEWHERE.get(word, word) for word in shlex.split(line))
            run = subprocess.run(
                [*PROGRAMS[program], *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert run.returncode in (0, 1) and "Traceback" not in run.stderr, f"{line}\n{run.stderr}"
            out = "\n".join(part.rstrip() for part in run.stdout.splitlines()) + "\n" if run.stdout else ""
            # What a finding costs is a forecast, and not every finding has one: the page shows it where it helps.
            shown, out = (re.sub(r"; costs [\d,]+ bytes a run", "", text) for text in (expected, out))
            assert re.fullmatch(pattern(shown), out, re.DOTALL), f"{line}\n{run.stdout}\n{run.stderr}"
            ran += 1
    assert ran >= 12


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

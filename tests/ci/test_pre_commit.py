"""The pre-commit hook: valid by pre-commit itself, matches models, and its entry checks them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

from qdqgraph.cli.main import main
from tests.support.models import build
from tests.support.paths import ROOT

FILE = ROOT / ".pre-commit-hooks.yaml"
HOOKS: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"
CLEAN = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"


def test_pre_commit_accepts_the_manifest() -> None:
    pytest.importorskip("pre_commit")
    command = [sys.executable, "-m", "pre_commit", "validate-manifest", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_hook_checks_models_and_fails_on_findings(tmp_path: Path) -> None:
    (hook,) = HOOKS
    assert [bool(re.search(hook["files"], name)) for name in ("a/b.onnx", "b.onnx.data", "onnx.py")] == [
        True,
        False,
        False,
    ]
    program, *arguments = shlex.split(hook["entry"])
    assert program == "qdqgraph" and hook["language"] == "python"
    for name, text in (("twice", TWICE), ("clean", CLEAN)):
        onnx.save(build(text), tmp_path / f"{name}.onnx")
    twice, clean = str(tmp_path / "twice.onnx"), str(tmp_path / "clean.onnx")
    assert main([*arguments, clean]) == 0
    assert main([*arguments, clean, twice]) == 1
    assert main([*arguments, "--fail-on", "error", twice]) == 0, "as `args: [--fail-on, error]` of a configuration"

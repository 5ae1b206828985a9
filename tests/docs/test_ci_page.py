"""docs/ci.md: its files are valid for the programs that read them, and its commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import onnx
import pytest
import yaml

from qdqgraph.cli.main import main
from qdqgraph.report import formats
from tests.support.models import build
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = [dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE, re.MULTILINE)]
TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"


def block(start: str) -> Any:
    """The YAML block that begins with a key."""
    (found,) = [text for text in BLOCKS if text.strip().startswith(start)]
    return yaml.safe_load(found)


def test_the_formats_are_those_of_check() -> None:
    assert {*re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)} == {*formats.names()} - {"text"}


def test_the_workflow_uses_inputs_of_the_action() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    (step,) = [s for s in block("jobs:")["jobs"]["models"]["steps"] if "qdqgraph" in s["uses"]]
    assert set(step["with"]) <= set(action["inputs"])
    named = re.findall(r"`([a-z-]+)` \(|`(summary)`|`(python-version)`", PAGE)
    assert set(action["inputs"]) == {*step["with"], *("".join(groups) for groups in named)} - {"exit-code"}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    onnx.save(build(TWICE), "models/twice.onnx")
    onnx.save(build(TWICE), "model.onnx")


@pytest.mark.usefixtures("model")
def test_the_commands_run(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    job = block("qdqgraph:")["qdqgraph"]
    (check,) = [line for line in job["script"] if line.startswith("qdqgraph ")]
    command, _, file = check.partition(" > ")
    assert file == job["artifacts"]["reports"]["junit"]
    assert main([a.replace("*", "twice") for a in shlex.split(command)[1:]]) == 1
    assert capsys.readouterr().out.startswith("<?xml")
    (fix,) = [text.strip() for text in BLOCKS if text.strip().startswith("qdqgraph fix")]
    assert main(shlex.split(fix.partition(" >> ")[0])[1:]) == 0
    assert capsys.readouterr().out.startswith("## `model.onnx`")


def test_pre_commit_accepts_the_configuration(tmp_path: Path) -> None:
    pytest.importorskip("pre_commit")
    content = block("repos:")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for repo in content["repos"] for hook in repo["hooks"]] == [hook["id"] for hook in hooks]

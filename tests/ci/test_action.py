"""The GitHub action: valid by the schema of GitHub, and its steps run as GitHub runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
import yaml

from tests.support.models import build
from tests.support.paths import DATA, ROOT

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS: dict[str, dict[str, Any]] = {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}
TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"
CLEAN = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"


@dataclass(frozen=True)
class Ran:
    """What a step did."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str


def run(name: str, folder: Path, env: dict[str, str] | None = None, **inputs: str) -> Ran:
    """Runs a step as GitHub does: bash, the inputs by their expressions, files for outputs and summary.

    Source: https://docs.github.com/actions/reference/workflow-syntax-for-github-actions (shell: bash)
    """
    known = {key: entry.get("default", "") for key, entry in ACTION["inputs"].items()} | {
        key.replace("_", "-"): value for key, value in inputs.items()
    }
    step = STEPS[name]
    assert step["shell"] == "bash"
    assert "${{" not in step["run"], "an expression in a script is code that an input can write"
    filled = {
        key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: known[found[1]], value)
        for key, value in step.get("env", {}).items()
    }
    files = {"GITHUB_OUTPUT": folder / "output", "GITHUB_STEP_SUMMARY": folder / "summary"}
    for file in files.values():
        file.write_text("")
    (folder / "script.sh").write_text(step["run"])
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(folder / "script.sh")],
        cwd=folder / "work",
        env={**os.environ, **(env or {}), **filled, **{key: str(file) for key, file in files.items()}},
        capture_output=True,
        text=True,
        timeout=300,
    )
    outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return Ran(done.returncode, done.stdout + done.stderr, outputs, files["GITHUB_STEP_SUMMARY"].read_text())


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a checkout: one model with a finding, one without, in a folder with a space."""
    (tmp_path / "work" / "my models" / "deep").mkdir(parents=True)
    onnx.save(build(TWICE), tmp_path / "work" / "my models" / "deep" / "twice.onnx")
    onnx.save(build(CLEAN), tmp_path / "work" / "clean.onnx")
    program = tmp_path / "bin" / "qdqgraph"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qdqgraph "$@"\n')
    program.chmod(0o755)
    return tmp_path


def check(work: Path, **inputs: str) -> Ran:
    path = f"{work / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return run("Check", work, {"PATH": path, "PYTHONPATH": str(ROOT)}, **inputs)


def test_it_is_valid_by_the_schema_of_github() -> None:
    schema = json.loads((DATA / "schemas" / "github-action.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(ACTION)
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text(encoding="utf-8")))
    assert used == set(ACTION["inputs"])


def test_findings_are_annotations_a_summary_and_a_sarif_file_and_fail_the_job(work: Path) -> None:
    ran = check(work, models="**/*.onnx", sarif="found.sarif", arguments="--no-config\n--select=QDQ1")
    assert (ran.code, ran.outputs) == (1, {"exit-code": "1", "sarif": "written"})
    assert "::warning file=my models/deep/twice.onnx,title=QDQ104 tensor-quantized-twice::" in ran.log
    assert "## `clean.onnx`" in ran.summary and "| QDQ104 |" in ran.summary
    content = json.loads((work / "work" / "found.sarif").read_text())
    schema = json.loads((DATA / "schemas" / "sarif-2.1.0.schema.json").read_text("utf-8"))
    jsonschema.Draft7Validator(schema).validate(content)
    assert [r["ruleId"] for r in content["runs"][0]["results"]] == ["QDQ104"]


def test_what_fails_the_job_can_be_chosen(work: Path) -> None:
    options = {"models": "my models/deep/twice.onnx\nclean.onnx", "summary": "false", "arguments": "--no-config"}
    ran = check(work, **options, fail_on="error")
    assert (ran.code, ran.outputs, ran.summary) == (0, {"exit-code": "0"}, "")
    assert "::warning file=my models/deep/twice.onnx" in ran.log


@pytest.mark.parametrize("models", ["nets/*.onnx", "clean.onnx\nnets/*.onnx"])
def test_a_glob_that_matches_no_file_is_an_error(work: Path, models: str) -> None:
    ran = check(work, models=models)
    assert ran.code == 2 and ran.log == "::error::no file matches nets/*.onnx\n"


def test_nothing_is_uploaded_if_the_check_does_not_begin(work: Path) -> None:
    (work / "work" / "found.sarif").write_text("of an earlier run")
    ran = check(work, models="clean.onnx", sarif="found.sarif", arguments="--no-such-option")
    assert (ran.code, ran.outputs) == (2, {"exit-code": "2"}) and not (work / "work" / "found.sarif").exists()


def test_an_input_is_data_and_no_code(work: Path) -> None:
    ran = check(work, models="$(touch a); `touch b`\n--version", summary="false")
    assert ran.code == 2 and not (work / "work" / "a").exists() and not (work / "work" / "b").exists()
    assert "qdqgraph 0" not in ran.log


def test_the_step_before_installs_the_commit_of_the_action(work: Path) -> None:
    """pip's options come from its variables: without a network, without dependencies, into a folder of the test."""
    pytest.importorskip("hatchling")
    target = work / "installed"
    quiet = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_TARGET": str(target)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = run("Install qdqgraph", work, {**quiet, "PATH": path, "GITHUB_ACTION_PATH": str(ROOT)})
    assert ran.code == 0, ran.log
    found = subprocess.run(
        [sys.executable, str(target / "bin" / "qdqgraph"), "check", "clean.onnx"],
        cwd=work / "work",
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stderr) == (0, "")

"""What a type checker says to a user's program: `consumer/good.py` passes, each mistake in `consumer/bad.py` fails as it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import PACKAGE, ROOT

pytest.importorskip("mypy")
CONSUMER = Path(__file__).parent / "consumer"
MARK = "# E: "
"""The message of the next line."""
SETTINGS = """
[mypy]
strict = true
mypy_path = {root}
follow_imports = silent
cache_dir = {cache}

[mypy-onnx_graphsurgeon.*,onnxruntime.*,tensorrt_rtx.*,psutil.*,rich.*,torch.*,optuna.*,jsonschema.*,google.*]
follow_imports = skip
follow_untyped_imports = false
ignore_missing_imports = true
"""


def complaints(output: str, file: str) -> dict[int, str]:
    """The first error of each line of a file."""
    found: dict[int, str] = {}
    for line, text in re.findall(rf"{file}:(\d+): error: (.*)", output):
        found.setdefault(int(line), text)
    return found


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> str:
    """What mypy prints of the two programs; what it knows of the packages is kept for the next run."""
    settings = tmp_path_factory.mktemp("consumer") / "mypy.ini"
    cache = getattr(pytestconfig, "cache", None)
    kept = cache.mkdir("consumer-mypy") if cache is not None else settings.parent / "cache"
    settings.write_text(SETTINGS.format(root=ROOT, cache=kept), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "good.py", "bad.py"]
    run = subprocess.run(command, cwd=CONSUMER, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stdout + run.stderr
    return run.stdout


def test_right_uses_pass_under_strict(said: str) -> None:
    assert complaints(said, "good.py") == {}


def test_each_mistake_is_named(said: str) -> None:
    lines = (CONSUMER / "bad.py").read_text(encoding="utf-8").splitlines()
    expected = {number + 1: line[len(MARK) :] for number, line in enumerate(lines, 1) if line.startswith(MARK)}
    found = complaints(said, "bad.py")
    assert len(expected) > 10 and found.keys() == expected.keys()
    assert {n: found[n][: len(text)] for n, text in expected.items()} == expected


def test_the_package_says_that_it_is_typed() -> None:
    """The wheel ships the file: tests/test_house.py."""
    assert (PACKAGE / "py.typed").is_file()

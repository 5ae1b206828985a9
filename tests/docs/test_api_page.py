"""docs/api.md is what the code says, and each of its examples runs and prints what it quotes."""

from __future__ import annotations

from pathlib import Path

import pytest

import qdqgraph
from docs.generate.api import GROUPS, PAGE, page
from docs.generate.api_examples import EXAMPLES
from tests.support.pages import run_page

for extra in ("onnxruntime", "optuna"):
    pytest.importorskip(extra)


def test_the_page_is_what_the_command_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m docs.generate.api"


def test_every_function_is_on_the_page_with_an_example() -> None:
    functions = {name for name in qdqgraph.__all__ if name[0].islower()}
    assert functions == {name for names in GROUPS.values() for name in names} == set(EXAMPLES)


def test_the_examples_run_in_the_order_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = list(run_page(PAGE))
    assert [(step.text, step.expected, step.output) for step in steps if not step.as_quoted()] == []
    assert len(steps) == len(EXAMPLES) + 1

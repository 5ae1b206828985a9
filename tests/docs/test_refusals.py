"""Every message of docs/refusals.md and docs/troubleshooting.md is one that the code can print: each part between its
names and numbers is in it."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.paths import PACKAGE, ROOT

WRONG_FILES, MODELS = '## "this is …, not …"', "## About the model"
"""Sections of docs/troubleshooting.md whose tables begin with messages; those of the first with names of files."""


def rows(text: str) -> list[str]:
    """The first cells of the tables, headers left out."""
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return [cell for cell in cells if cell not in ("message", "the message says", "---")]


def messages() -> list[str]:
    """The messages of both pages."""
    pages = {
        name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("refusals", "troubleshooting")
    }
    sections = {part.split("\n")[0]: part for part in re.split(r"\n(?=## )", pages["troubleshooting"])}
    files = [name for cell in rows(sections[WRONG_FILES]) for name in cell.split(", ") if name != "…"]
    return [*rows(pages["refusals"]), *files, *rows(sections[MODELS])]


MESSAGES = messages()


@cache
def texts() -> frozenset[str]:
    """The constant texts that the package computes with, those inside f-strings too: no docstrings."""
    nodes = [node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    said = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = (node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in said)
    return frozenset(text for text in constants if isinstance(text, str))


def parts(message: str) -> list[str]:
    """The parts of a message between names and numbers, in quotes or not."""
    return [part for text in message.split("…") if len(part := text.strip(" '\"")) > 3]


def test_the_pages_have_messages() -> None:
    assert len(MESSAGES) > 50


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_can_print_it(message: str) -> None:
    assert parts(message)
    assert [part for part in parts(message) if not any(part in text for text in texts())] == []

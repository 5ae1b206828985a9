"""Every message of docs/refusals.md is one that the code can print: each part between its names and numbers is in it."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.support.paths import PACKAGE, ROOT

PAGE = (ROOT / "docs" / "refusals.md").read_text(encoding="utf-8")
MESSAGES = [text for text in re.findall(r"^\| ([^|]+) \|", PAGE, re.MULTILINE) if text not in ("message", "---")]


@cache
def texts() -> frozenset[str]:
    """The constant texts of the package, those inside f-strings too."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    constants = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return frozenset(text for text in constants if isinstance(text, str))


def parts(message: str) -> list[str]:
    """The parts of a message between names and numbers, in quotes or not."""
    return [part for text in message.split("…") if len(part := text.strip(" '\"")) > 3]


def test_the_page_has_messages() -> None:
    assert len(MESSAGES) > 20


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_can_print_it(message: str) -> None:
    assert parts(message)
    assert [part for part in parts(message) if not any(part in text for text in texts())] == []

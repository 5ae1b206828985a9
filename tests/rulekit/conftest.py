"""Text rules, written for one test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qdqgraph.rulekit.text import TextRule
from tests.support.text_rules import HEAD, Load


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(text: str) -> TextRule:
        file = tmp_path / "my_rule.toml"
        file.write_text(text)
        return TextRule(file)

    return loaded


@pytest.fixture
def report(load: Load) -> Callable[..., TextRule]:
    """A rule that only reports where a pattern matches."""

    def made(pattern: str, more: str = "") -> TextRule:
        return load(f'{HEAD}safety = "manual"\nmessage = "here"\npattern = """{pattern}"""\n{more}')

    return made


@pytest.fixture
def rewrite(load: Load) -> Callable[..., TextRule]:
    """A rule that replaces a pattern."""

    def made(pattern: str, result: str, more: str = "", safety: str = "exact") -> TextRule:
        return load(f'{HEAD}safety = "{safety}"\npattern = """{pattern}"""\nrewrite = """{result}"""\n{more}')

    return made

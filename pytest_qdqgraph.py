"""pytest plugin: `pytest --qdqgraph-rules PATH` runs every check of the rules in a file or folder as a test.

It is a separate module, so that pytest runs without the option do not import onnx.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qdqgraph.authoring.testing import Verdict


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--qdqgraph-rules`."""
    help = "run the examples of the qdqgraph rules in this file or folder as tests; repeatable"
    parser.getgroup("qdqgraph").addoption("--qdqgraph-rules", action="append", default=[], metavar="PATH", help=help)


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Adds one item per check."""
    paths = [Path(p) for p in config.getoption("--qdqgraph-rules")]
    if paths:
        items += _items(session, paths)


def _items(session: pytest.Session, paths: list[Path]) -> Iterator[pytest.Item]:
    from qdqgraph import errors
    from qdqgraph.authoring import testing
    from qdqgraph.rulekit import catalog

    try:
        rules = catalog.load(paths, builtin=False, installed=False)
    except errors.RuleError as error:
        raise pytest.UsageError(str(error)) from error
    for rule in rules:
        for verdict in testing.verdicts(rule):
            name = f"{rule.code}[{verdict.title}]"
            yield RuleItem.from_parent(session, name=name, verdict=verdict)
    for verdict in testing.lock_verdicts(paths, rules):
        yield RuleItem.from_parent(session, name=verdict.title, verdict=verdict)


class RuleItem(pytest.Item):
    """One check of one rule."""

    def __init__(self, *, verdict: Verdict, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.verdict = verdict

    def runtest(self) -> None:
        """Fails if the check found a fault in the rule."""
        if self.verdict.fault:
            raise RuleError(self.verdict)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """The fault, without pytest's traceback."""
        del style
        return str(excinfo.value)

    def reportinfo(self) -> tuple[str, int | None, str]:
        """File and line of the example."""
        file, _, line = self.verdict.place.rpartition(":")
        return (file, int(line) - 1, self.name) if line.isdigit() else (self.verdict.place, None, self.name)


class RuleError(Exception):
    """A check of a rule failed."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.place}: {verdict.fault}")

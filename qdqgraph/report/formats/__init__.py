"""Formats of findings. A module of this package is a format: its name is what `check --format` takes, and its function
`render(files: Sequence[FileFindings]) -> Iterator[str | rich.text.Text]` yields the lines. There is no list to add to.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from ...rulekit.finding import Finding
from ..text import say


@dataclass(frozen=True)
class FileFindings:
    """What was found in one file.

    Attributes:
        path: the file, as the user named it.
        findings: in their order, as `qdqgraph.check` returns them.
    """

    path: str
    findings: Sequence[Finding]

    @property
    def here(self) -> tuple[Finding, ...]:
        """The findings on the target asked for."""
        return tuple(finding for finding in self.findings if not finding.target)

    @property
    def elsewhere(self) -> Mapping[str, tuple[Finding, ...]]:
        """The findings on another target alone, by the name of the target."""
        targets = dict.fromkeys(finding.target for finding in self.findings if finding.target)
        return {name: tuple(finding for finding in self.findings if finding.target == name) for name in targets}


def names() -> tuple[str, ...]:
    """The formats there are, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def show(name: str, console: Console, files: Sequence[FileFindings]) -> None:
    """Prints the findings in the format `name`, one of `names()`.

    Raises:
        ModuleNotFoundError: there is no such format.
    """
    for line in importlib.import_module(f".{name}", __name__).render(files):
        say(console, line)


__all__ = ["FileFindings", "names", "show"]

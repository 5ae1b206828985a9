"""Formats of findings.

Each module of this package is a format: its name is an argument of `check --format`, and its function
`render(files: Sequence[FileFindings]) -> Iterator[str | rich.text.Text]` yields the lines, control
characters included: `show` escapes them. A `Command` may begin with `::`, a `Document` is JSON. To add a format, add a
module.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the parser needs the names of the formats alone
    from rich.console import Console

    from ...engines.share import Int8Share
    from ...rulekit.finding import Finding
    from ...rulekit.rule import Rule
    from ..checked import Checked
    from ..summary.checking import CheckSummary


class Command(str):
    """A line that begins with `::`, a workflow command of GitHub Actions."""


class Document(str):
    """JSON."""


@dataclass(frozen=True)
class FileFindings:
    """The findings in one file.

    Attributes:
        path: the file, as the user wrote it.
        findings: in their order, as `qdqgraph.check` returns them.
        int8: what runs in INT8, by the forecast; None if unknown.
        rules: the rules that were run; none if unknown.
        checked: what `qdqgraph.check` returned; None if unknown.
        fix: the command that repairs the file; "" for `fix` without options.
        error: why the file cannot be checked, with its path; "" if it was.
    """

    path: str
    findings: Sequence[Finding]
    int8: Int8Share | None = None
    rules: Sequence[Rule] = ()
    checked: Checked | None = None
    fix: str = ""
    error: str = ""

    @classmethod
    def of(cls, found: Checked, rules: Sequence[Rule] = (), fix: str = "") -> FileFindings:
        """What `qdqgraph.check` returned for a file, for the format markdown best with a rehearsal.

        Args:
            found: what was returned.
            rules: the rules that were run.
            fix: the command that repairs the file; by default `fix` without options.
        """
        return cls(found.file, found.findings, found.int8, rules, found, fix)

    @cached_property
    def summary(self) -> CheckSummary | None:
        """The findings by rule, tensor and outcome; None if unknown."""
        from ..summary.checking import summary

        return None if self.checked is None else summary(self.path, self.checked, self.fix)

    @property
    def here(self) -> tuple[Finding, ...]:
        """The findings for the requested target."""
        return tuple(finding for finding in self.findings if not finding.target)

    @property
    def elsewhere(self) -> Mapping[str, tuple[Finding, ...]]:
        """The findings that only another target has, by the name of that target."""
        targets = dict.fromkeys(finding.target for finding in self.findings if finding.target)
        return {name: tuple(finding for finding in self.findings if finding.target == name) for name in targets}


def names() -> tuple[str, ...]:
    """The names of all formats, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def show(name: str, console: Console, files: Sequence[FileFindings]) -> None:
    """Prints the findings in the format `name`, one of `names()`.

    Raises:
        ModuleNotFoundError: there is no such format.
    """
    from ..lines import say, say_command, say_json  # the command line lists the formats without loading rich

    for line in importlib.import_module(f".{name}", __name__).render(files):
        if isinstance(line, Command):
            say_command(console, line)
        elif isinstance(line, Document):
            say_json(console, line)
        else:
            say(console, line)


def written(name: str, files: Sequence[FileFindings]) -> str:
    """Returns the text of a file with the findings in the format `name`, one of `names()`."""
    from ..notebook import plain

    return plain(lambda console: show(name, console, files)) + "\n"


__all__ = ["Command", "Document", "FileFindings", "names", "show", "written"]

"""The command check."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .. import api
from ..errors import ModelError, QdqgraphError
from ..report import formats
from ..report.screens import checking as screen
from ..report.screens.checking import Detail
from ..report.summary import checking
from ..rulekit.finding import Finding, Severity
from ..rulekit.rule import Rule
from .check_arguments import TEXT
from .console import steps, terminal
from .failures import failed
from .invocation import Invocation
from .report import refuse_report, write_report
from .words import repairing


def check(args: Namespace) -> int:
    """`qdqgraph check MODEL…`: returns 0 if no finding counts by --fail-on, 1 if one does, 2 if a file cannot be read.

    A file that cannot be read does not keep the others from being reported.

    Raises:
        ModelError: a report is asked for that cannot be written, or of several files.
    """
    refuse_report(args, *args.models)
    if args.report is not None and len(args.models) > 1:
        raise ModelError("--report is about one model: name one, or write a report for each")
    run = Invocation.of(args)
    reports = _Reports(args)
    shown = args.format in (TEXT, "markdown") and args.detail != Detail.QUIET.value
    rehearse = (shown or args.report is not None) and not args.no_rehearsal
    codes = [0]
    with steps() as step:
        for number, path in enumerate(args.models, 1):
            step(f"checking file {number} of {len(args.models)}: {path}")
            rules, options = run.rules(path), run.options(path)
            try:
                with _named(path):
                    found = api.check(path, rules, options, other_targets=True, rehearse=rehearse)
            except QdqgraphError as error:
                codes.append(failed(error, args))
                reports.add_failed(path, error)
                continue
            reports.add(path, found, rules, options.target)
            if args.report is not None:
                from ..report.html import pages  # only the commands that write a page load this

                step("writing the report")
                command = shlex.join(repairing(args, path))
                write_report(args, pages.check_page(path, found, rules, options.target, command))
            codes.append(int(any(_counts(finding, args.fail_on) for finding in found.findings)))
    reports.show()
    return max(codes)


def _counts(finding: Finding, fail_on: str) -> bool:
    """Whether a finding ends in exit code 1."""
    known = fail_on == "warning" or (fail_on == "error" and finding.severity is Severity.ERROR)
    return known and not finding.target


class _Reports:
    """The reports on the files of one call, in the format that it asks for."""

    def __init__(self, args: Namespace) -> None:
        self._args = args
        self._files: list[formats.FileFindings] = []
        self._summaries: list[tuple[Path, checking.CheckSummary]] = []

    def add(self, path: Path, found: api.Checked, rules: Sequence[Rule], target: str) -> None:
        """Adds a file."""
        if self._args.format == TEXT:
            self._summaries.append((path, checking.summary(str(path), target, found)))
        else:
            self._files.append(formats.FileFindings.of(str(path), found, rules, target))

    def add_failed(self, path: Path, error: QdqgraphError) -> None:
        """Adds a file that cannot be checked; stderr has the error already, for a reader of text."""
        if self._args.format != TEXT:
            self._files.append(formats.FileFindings(str(path), (), error=str(error)))

    def show(self) -> None:
        """Prints all."""
        if self._files:
            formats.show(self._args.format, terminal(), self._files)
        console, detail = terminal(), Detail(self._args.detail)
        for place, (path, found) in enumerate(self._summaries):
            if place and detail is not Detail.QUIET:
                console.print()
            screen.show(console, found, detail, repairing(self._args, path))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the path into the message of an error that does not name it."""
    try:
        yield
    except QdqgraphError as error:
        if str(path) not in str(error):
            error.args = (f"{path}: {error}", *error.args[1:])
        raise

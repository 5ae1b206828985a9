"""The command check."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .. import api
from ..errors import ModelError, QdqgraphError
from ..model.writing.texts import write_text
from ..report import formats
from ..report.formats import FileFindings
from ..report.screens import checking as screen
from ..report.screens.checking import Detail
from ..rulekit.finding import Finding, Severity
from .check_arguments import TEXT
from .console import steps, terminal
from .failures import failed
from .invocation import Invocation
from .report import refuse_output, refuse_report, write_report
from .words import repairing
from .written import saved


def check(args: Namespace) -> int:
    """`qdqgraph check MODEL…`: returns 0 if no finding counts by --fail-on, 1 if one does, 2 if a file cannot be read.

    A file that cannot be read does not keep the others from being reported.

    Raises:
        ModelError: a file is asked for that cannot be written, or a report of several models.
    """
    refuse_report(args, *args.models)
    if args.report is not None and len(args.models) > 1:
        raise ModelError("--report is about one model: name one, or write a report for each")
    for _, file in saved(args):
        refuse_output(args, file, args.models)
    run = Invocation.of(args)
    detail = Detail(args.detail)
    asked = {args.format, *(name for name, _ in saved(args))} - ({TEXT} if detail is Detail.QUIET else set())
    rehearse = (not asked.isdisjoint((TEXT, "markdown")) or args.report is not None) and not args.no_rehearsal
    files: list[FileFindings] = []
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
                files.append(FileFindings(str(path), (), error=str(error)))
                continue
            command = shlex.join(repairing(args, path))
            files.append(FileFindings.of(found, rules, command))
            if args.report is not None:
                from ..report.html import pages  # only the commands that write a page load this

                step("writing the report")
                write_report(args, pages.check_page(path, found, rules, command))
            codes.append(int(any(_counts(finding, args.fail_on) for finding in found.findings)))
    for name, file in saved(args):
        write_text(formats.written(name, files), file, force=args.force)
    if args.format == TEXT:
        _show(args, files, detail)
    else:
        formats.show(args.format, terminal(), files)
    return max(codes)


def _show(args: Namespace, files: Sequence[FileFindings], detail: Detail) -> None:
    """Prints the screens of the files that were checked; stderr has the errors of the others already."""
    console = terminal()
    for place, file in enumerate(file for file in files if not file.error):
        if place and detail is not Detail.QUIET:
            console.print()
        assert file.summary is not None
        screen.show(console, file.summary, detail)


def _counts(finding: Finding, fail_on: str) -> bool:
    """Whether a finding ends in exit code 1."""
    known = fail_on == "warning" or (fail_on == "error" and finding.severity is Severity.ERROR)
    return known and not finding.target


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the path into the message of an error that does not name it."""
    try:
        yield
    except QdqgraphError as error:
        if str(path) not in str(error):
            error.args = (f"{path}: {error}", *error.args[1:])
        raise

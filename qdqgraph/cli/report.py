"""The command report, and the option --report of other commands: one HTML file."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import api
from ..errors import ModelError
from ..model.writing.outputs import refuse_to_overwrite
from ..model.writing.texts import write_text
from ..model.writing.users import same_file
from .console import steps
from .invocation import Invocation
from .words import repairing
from .written import outputs

if TYPE_CHECKING:
    from ..report.html.data import Page

SUFFIXES = (".html", ".htm")


def refuse_output(args: Namespace, file: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Rejects a file that cannot be written, before the work starts.

    Raises:
        ModelError: as `refuse_to_overwrite`; or the command writes another output to the same file.
    """
    refuse_to_overwrite(file, force=args.force, inputs=[path for path in inputs if path is not None])
    if sum(same_file(file, other) for other in outputs(args)) > 1:
        raise ModelError(f"{file} is given for two outputs: name two files")


def refuse_report(args: Namespace, *inputs: Path | None) -> None:
    """Rejects a report that cannot be written, before the work starts.

    Raises:
        ModelError: as `refuse_output`; or the file is not named .html.
    """
    if args.report is None:
        return
    page: Path = args.report
    if page.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{page}: the report is an HTML page: use the file extension .html")
    refuse_output(args, page, inputs)


def write_report(args: Namespace, page: Page) -> None:
    """Writes the page to the file of --report.

    Raises:
        ModelError: it cannot be written.
    """
    from ..report.html.render import html

    write_text(html(page), args.report, force=args.force)


def report(args: Namespace) -> int:
    """`qdqgraph report MODEL -o FILE.html`: returns 0 if the page was written."""
    args.report, args.output = args.output, None
    refuse_report(args, args.model, args.fixed)
    run = Invocation.of(args)
    rules, options = run.rules(args.model), run.options(args.model)
    with steps() as step:
        step(f"{args.model}: checking")
        from ..report.html import pages, repairs  # only the commands that write a page load this

        if args.fixed is not None:
            page = repairs.fixed_page(args.model, args.fixed, rules, options)
        else:
            found = api.check(args.model, rules, options, other_targets=True, rehearse=True)
            page = pages.check_page(args.model, found, rules, shlex.join(repairing(args, args.model)))
        step("writing the report")
        write_report(args, page)
    return 0

"""The arguments of check that say how its findings are shown."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

from ..report import formats
from .report_arguments import add_report
from .slips import unknown_choice

TEXT = "text"
"""The format for reading."""


def add_shown(verb: ArgumentParser) -> None:
    """Adds the options that say how findings are shown."""
    group = verb.add_argument_group("output")
    which = group.add_mutually_exclusive_group()
    for names, value, help in (
        (("-q", "--quiet"), "quiet", "print the verdict alone, one line a file"),
        (("--statistics",), "statistics", "print the table of rules alone"),
        (("-v", "--verbose"), "verbose", "print the message and the repair of each place, and every reason"),
        (("--full",), "full", "print every finding, those that cost most first"),
    ):
        which.add_argument(*names, action="store_const", const=value, dest="detail", help=help)
    group.set_defaults(detail="normal")
    help = "do not repair a copy in memory to see what fix would do; a finding is then repairable if it has a repair"
    group.add_argument("--no-rehearsal", action="store_true", help=help)
    help = "the findings that end in exit code 1: errors, all (warning), or none (never); default: warning"
    group.add_argument("--fail-on", choices=["error", "warning", "never"], default="warning", help=help)
    group.add_argument("--format", choices=(*formats.names(), TEXT), default=TEXT, help="what is printed")
    group.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    help = "also write the findings to a file: FORMAT is one of --format except text; may be repeated"
    group.add_argument("--save", action="append", default=[], type=_saved, metavar="FORMAT=FILE", help=help)
    add_report(group)


def _saved(text: str) -> str:
    """A format and a file, as they were given."""
    name, _, file = text.partition("=")
    if name not in formats.names():
        raise ArgumentTypeError(unknown_choice(name, formats.names()))
    if not file:
        raise ArgumentTypeError(f"{text!r} names no file: write {name}=FILE")
    return text

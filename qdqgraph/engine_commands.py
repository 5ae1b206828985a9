"""The commands about engines: each takes parsed arguments, prints to stdout, and returns the exit code."""

from __future__ import annotations

from argparse import Namespace

from .commands import terminal
from .engines.diff import diff
from .engines.layers import Engine
from .engines.saved import open_engine, to_json
from .files import write_text
from .report import engine as report
from .report import text


def engine(args: Namespace) -> int:
    """`qdqgraph engine WHAT`."""
    return int({"read": _read, "diff": _diff}[args.what](args))


def _read(args: Namespace) -> int:
    return _show(args, open_engine(args.layers, profile=args.profile, times=args.times))


def _show(args: Namespace, found: Engine) -> int:
    """Prints an engine, and saves it where asked to."""
    if args.output is not None:
        write_text(to_json(found), args.output, force=args.force)
    if args.json:
        text.say(terminal(), to_json(found))
    else:
        report.show_engine(terminal(), found)
    return 0


def _diff(args: Namespace) -> int:
    """0 where B is not worse, 1 where it is."""
    a, b = open_engine(args.a, profile=args.profile_a), open_engine(args.b, profile=args.profile_b)
    found = diff(a, b)
    if args.json:
        text.say(terminal(), report.diff_json(found))
    else:
        report.show_diff(terminal(), found)
    return int(bool(found.worse))


__all__ = ["engine"]

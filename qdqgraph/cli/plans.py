"""The commands for plans, and for two models: apply, undo, diff."""

from __future__ import annotations

from argparse import Namespace

from .. import api
from ..report.lines import say, say_json
from .console import terminal, warn


def apply(args: Namespace) -> int:
    """`qdqgraph apply PLAN MODEL -o OUT`: applies a saved plan."""
    api.apply(args.plan, args.model, output=args.output, force=args.force, note=warn)
    return 0


def undo(args: Namespace) -> int:
    """`qdqgraph undo PLAN MODEL -o OUT`: restores the original, byte for byte."""
    api.undo(args.plan, args.model, output=args.output, force=args.force, note=warn)
    return 0


def diff(args: Namespace) -> int:
    """`qdqgraph diff A B`: returns 0 if the quantization is equal, 1 if it differs."""
    console, lines = terminal(), api.diff(args.a, args.b)
    if args.json:
        from ..report import records, rule_records  # each way of printing loads what it needs

        record = rule_records.DifferencesRecord(str(args.a), str(args.b), not lines, tuple(lines))
        say_json(console, records.encoded("diff", record))
        return int(bool(lines))
    for line in lines:
        say(console, line)
    return int(bool(lines))

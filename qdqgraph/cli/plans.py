"""The commands for plans, and for two models: apply, undo, diff."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from onnx import ModelProto

from .. import api
from ..report.lines import say, say_json
from .console import terminal, warn


def apply(args: Namespace) -> int:
    """`qdqgraph apply PLAN MODEL -o OUT`: applies a saved plan."""
    return _edited(args, api.apply)


def undo(args: Namespace) -> int:
    """`qdqgraph undo PLAN MODEL -o OUT`: restores the original, byte for byte."""
    return _edited(args, api.undo)


def _edited(args: Namespace, edit: Callable[..., ModelProto]) -> int:
    notes: list[str] = []
    model = edit(args.plan, args.model, output=args.output, force=args.force, note=notes.append)
    warn(*notes)
    if args.json:
        from ..repair.plan import digest
        from ..report import plan_records, records  # each way of printing loads what it needs

        files = (str(args.plan), str(args.model), str(args.output))
        record = plan_records.AppliedRecord(*files, digest(model), tuple(notes))
        say_json(terminal(), records.encoded("applied", record))
    else:
        say(terminal(), f"Wrote {args.output}")
    return 0


def diff(args: Namespace) -> int:
    """`qdqgraph diff A B`: returns 0 if the quantization is equal, 1 if it differs."""
    console, lines = terminal(), api.diff(args.a, args.b)
    if args.json:
        from ..report import plan_records, records  # each way of printing loads what it needs

        record = plan_records.DifferencesRecord(str(args.a), str(args.b), not lines, tuple(lines))
        say_json(console, records.encoded("diff", record))
        return int(bool(lines))
    for line in lines:
        say(console, line)
    return int(bool(lines))

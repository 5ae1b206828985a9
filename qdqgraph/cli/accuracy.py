"""The command error."""

from __future__ import annotations

from argparse import Namespace

from .. import api
from ..api.measuring import byte_count
from ..report.lines import say
from .console import steps, terminal, warn
from .data import data_of
from .invocation import Invocation


def error(args: Namespace) -> int:
    """`qdqgraph error MODEL --data DATA`: returns 0 if the layers were compared."""
    run = Invocation.of(args)
    with steps() as step:
        found = api.error(
            args.model,
            data_of(args.data),
            run.rules(args.model),
            run.options(args.model),
            reference=args.reference,
            preprocess=args.preprocess,
            samples=args.samples,
            memory=byte_count(args.memory),
            provider=args.provider,
            progress=step,
        )
    if args.format == "json":
        from ..report import layer_records, records  # each way of printing loads what it needs

        say(terminal(), records.encoded(layer_records.AccuracyRecord.of(str(args.model), found)))
    elif args.format == "csv":
        from ..report import layer_records

        say(terminal(), layer_records.table(found))
    else:
        from ..report import accuracy

        accuracy.show(terminal(), str(args.model), found)
    warn(*found.notes)
    return 0

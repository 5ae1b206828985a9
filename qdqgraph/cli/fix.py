"""The commands that change a model: fix, strip."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from .. import api
from ..api.measuring import byte_count
from ..errors import ModelError
from ..report import text
from ..report.lines import say
from .console import steps, terminal, warn
from .data import data_of
from .invocation import Invocation, split_codes
from .written import so_far


def fix(args: Namespace) -> int:
    """`qdqgraph fix MODEL -o OUT`: returns 0 if the file was written, or with --dry-run would be."""
    if args.output is None and not args.dry_run:
        raise ModelError("no output file: use -o OUT, or --dry-run to write nothing")
    if args.keep_io and not args.fp16:
        raise ModelError("--keep-io has an effect only with --fp16: give both")
    if args.keep_scales and args.data is None and args.table is None:
        raise ModelError("--keep-scales has an effect only with --data or --ranges: give one of them")
    if args.exact and args.fp16:
        raise ModelError("--fp16 rounds values, so it is not --exact: give only one of them")
    if args.allow_worse and not args.verify:
        raise ModelError("--allow-worse has an effect only with --verify: give both")
    run, out = Invocation.of(args), None if args.dry_run else args.output
    files = [Path(file) for file in (args.statistics, out, None if args.dry_run else args.plan) if file is not None]
    with so_far(files), steps() as step:
        result = api.fix(
            args.model,
            run.rules(args.model),
            run.options(args.model),
            output=out,
            plan=None if args.dry_run else args.plan,
            force=args.force,
            fp16=args.fp16,
            keep_io=args.keep_io,
            numerics=not args.no_numerics,
            data=data_of(args.data),
            preprocess=args.preprocess,
            samples=args.samples,
            calibrate=args.calibrate,
            percentile=args.percentile,
            memory=byte_count(args.memory),
            statistics=args.statistics,
            reference=args.reference,
            table=args.table,
            provider=args.provider,
            engines=args.verify,
            allow_worse=args.allow_worse,
            globs=(*args.only, *args.skip),
            progress=step,
        )
    console = terminal()
    if args.json:
        from ..report import records  # each way of printing loads what it needs

        written = None if out is None else str(out)
        say(console, records.result_json(str(args.model), written, result))
    else:
        text.show_result(console, str(args.model), result, result.numbers)
        if result.fp16 is not None:
            text.show_fp16(console, str(args.model), result.fp16)
        if result.engines is not None:
            from ..report import engine as engines

            engines.show_proof(console, result.engines)
        text.show_share(console, str(args.model), result)
        if args.diff:
            say(console, result.plan.diff())
    warn(*result.notes)
    return 0


def strip(args: Namespace) -> int:
    """`qdqgraph strip MODEL --nodes GLOB… -o OUT`: removes the pairs of the chosen layers."""
    if not args.nodes and not args.select:
        raise ModelError("no layers chosen: use --nodes GLOB or --select CODES")
    rules = Invocation.of(args).named(split_codes(args.select)) if args.select else ()
    result = api.strip(args.model, args.nodes, rules, output=args.output, plan=args.plan, force=args.force)
    text.show_stripped(terminal(), str(args.model), result)
    warn(*result.notes)
    return 0

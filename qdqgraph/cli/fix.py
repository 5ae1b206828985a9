"""The commands that write a model: fix, quantize, strip."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from .. import api
from ..api.measuring import NONE, byte_count
from ..errors import ModelError
from ..report import text
from ..report.lines import say_json, say_lines
from .console import steps, terminal, warn
from .data import data_of
from .invocation import Invocation, split_codes


def fix(args: Namespace) -> int:
    """`qdqgraph fix MODEL -o OUT`: returns 0 if the file was written, or with --dry-run would be."""
    if args.keep_scales and args.data is None and args.table is None:
        raise ModelError("--keep-scales has an effect only with --data or --ranges: give one of them")
    if args.equalize and args.exact:
        raise ModelError("--equalize changes values, so it is not --exact: give only one of them")
    if args.equalize and args.keep_scales:
        raise ModelError("--equalize changes the ranges of tensors, so it needs new scales: omit --keep-scales")
    if args.bias_correction and args.data is None:
        raise ModelError("--bias-correction computes on samples: give them with --data")
    if args.exact and args.bias_correction:
        raise ModelError("--bias-correction rounds values, so it is not --exact: give only one of them")
    if args.round_weights and args.data is None:
        raise ModelError("--round-weights computes on samples: give them with --data")
    if args.exact and args.round_weights:
        raise ModelError("--round-weights changes values, so it is not --exact: give only one of them")
    if args.round_weights and args.weights is not None:
        raise ModelError("--round-weights stores integers itself, from float weights: omit --weights")
    if args.exact and args.fp16:
        raise ModelError("--fp16 rounds values, so it is not --exact: give only one of them")
    with steps() as step:
        result = api.fix(args.model, **_arguments(args), reference=args.reference, progress=step)
    return _shown(args, result)


def quantize(args: Namespace) -> int:
    """`qdqgraph quantize FLOAT.onnx -o OUT`: returns 0 if the file was written, or with --dry-run would be."""
    if args.data is None and args.table is None:
        raise ModelError("quantize needs the ranges of the activations: give --data, --ranges, or both")
    with steps() as step:
        result = api.quantize(args.model, **_arguments(args), progress=step)
    return _shown(args, result)


def _arguments(args: Namespace) -> Mapping[str, Any]:
    """Returns the arguments that `fix` and `quantize` share.

    Raises:
        ModelError: two options contradict each other, or as `Invocation.options`.
    """
    if args.output is None and not args.dry_run:
        raise ModelError("no output file: use -o OUT, or --dry-run to write nothing")
    if args.keep_io and not args.fp16:
        raise ModelError("--keep-io has an effect only with --fp16: give both")
    if args.equalize and args.data is None:
        raise ModelError("--equalize computes on samples: give them with --data")
    if args.equalize and args.table is not None:
        raise ModelError("--equalize changes the ranges of tensors, so it needs new scales: omit --ranges")
    if args.equalize and args.calibrate == NONE:
        raise ModelError("--equalize changes the ranges of tensors, so it needs new scales: omit --calibrate none")
    if args.allow_worse and not args.verify:
        raise ModelError("--allow-worse has an effect only with --verify: give both")
    run = Invocation.of(args)
    return {
        "rules": run.rules(args.model),
        "options": run.options(args.model),
        "output": None if args.dry_run else args.output,
        "plan": None if args.dry_run else args.plan,
        "force": args.force,
        "fp16": args.fp16,
        "keep_io": args.keep_io,
        "numerics": not args.no_numerics,
        "data": data_of(args.data),
        "preprocess": args.preprocess,
        "samples": args.samples,
        "calibrate": args.calibrate,
        "percentile": args.percentile,
        "memory": byte_count(args.memory),
        "statistics": args.statistics,
        "table": args.table,
        "provider": args.provider,
        "engines": args.verify,
        "allow_worse": args.allow_worse,
        "provenance": not args.no_provenance,
        "globs": (*args.only, *args.skip),
    }


def _shown(args: Namespace, result: api.Result) -> int:
    """Prints a result; returns 0."""
    console = terminal()
    if args.json:
        from ..report import records  # each way of printing loads what it needs

        written = None if args.dry_run else str(args.output)
        say_json(console, records.result_json(str(args.model), written, result))
    else:
        text.show_result(console, str(args.model), result, result.numbers)
        text.show_floats(console, str(args.model), result)
        if result.fp16 is not None:
            text.show_fp16(console, str(args.model), result.fp16)
        if result.engines is not None:
            from ..report import engine as engines

            engines.show_proof(console, result.engines)
        text.show_share(console, str(args.model), result)
        if args.diff:
            say_lines(console, result.plan.diff())
    warn(*result.notes)
    return 0


def strip(args: Namespace) -> int:
    """`qdqgraph strip MODEL --nodes GLOB… -o OUT`: removes the pairs of the chosen layers."""
    if not args.nodes and not args.select and args.ranking is None and args.top is None and args.min_gain is None:
        raise ModelError("no layers chosen: use --nodes GLOB, --select CODES or --from FILE")
    rules = Invocation.of(args).named(split_codes(args.select)) if args.select else ()
    result = api.strip(
        args.model,
        args.nodes,
        rules,
        ranking=args.ranking,
        top=args.top,
        min_gain=args.min_gain,
        output=args.output,
        plan=args.plan,
        force=args.force,
        provenance=not args.no_provenance,
    )
    text.show_stripped(terminal(), str(args.model), result)
    warn(*result.notes)
    return 0

"""The commands that write a model: fix, quantize, strip."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from .. import api
from ..api.measuring import NONE
from ..errors import ModelError
from ..repair.options import Options
from ..report import text
from ..report.lines import say, say_json, say_lines
from ..report.screens import fixing as screen
from ..report.screens.fixing import Detail
from ..report.summary import fixing
from ..rulekit.rule import Rule
from .console import steps, terminal, warn
from .data import samples_of
from .invocation import Invocation, split_codes
from .report import refuse_report, write_report


def fix(args: Namespace) -> int:
    """`qdqgraph fix MODEL -o OUT`: returns 0 if the file was written, or with --dry-run would be; 1 if a
    finding is left and `--exit-non-zero-if-left` was given."""
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
    arguments = _arguments(args)
    with steps() as step:
        result = api.fix(args.model, **arguments, reference=args.reference, progress=step)
    return _shown(args, result, arguments)


def quantize(args: Namespace) -> int:
    """`qdqgraph quantize FLOAT.onnx -o OUT`: returns 0 if the file was written, or with --dry-run would be; 1 if a
    finding is left and `--exit-non-zero-if-left` was given."""
    if args.data is None and args.table is None:
        raise ModelError("quantize needs the ranges of the activations: give --data, --ranges, or both")
    arguments = _arguments(args)
    with steps() as step:
        result = api.quantize(args.model, **arguments, progress=step)
    return _shown(args, result, arguments)


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
    refuse_report(args, args.model, args.reference if hasattr(args, "reference") else None)
    run = Invocation.of(args)
    return {
        "rules": run.rules(args.model),
        "options": run.options(args.model),
        "output": None if args.dry_run else args.output,
        "plan": None if args.dry_run else args.plan,
        "force": args.force,
        "external": args.external,
        "fp16": args.fp16,
        "keep_io": args.keep_io,
        "numerics": not args.no_numerics,
        **samples_of(args),
        "calibrate": args.calibrate,
        "percentile": args.percentile,
        "memory": args.memory,
        "statistics": args.statistics,
        "ranges": args.table,
        "provider": args.provider,
        "verify": args.verify,
        "allow_worse": args.allow_worse,
        "provenance": not args.no_provenance,
        "globs": (*args.only, *args.skip),
    }


def _shown(args: Namespace, result: api.Result, arguments: Mapping[str, Any]) -> int:
    """Writes the report of a result and prints it; returns 1 if --exit-non-zero-if-left was given and one is left."""
    if args.report is not None:
        _report(args, result, arguments["rules"], arguments["options"])
    console, detail = terminal(), Detail(args.detail)
    written, plan = (None, None) if args.dry_run else (args.output, args.plan)
    if args.format == "json":
        from ..report import records  # each way of printing loads what it needs

        say_json(console, records.result_json(str(args.model), written and str(written), result))
    else:
        found = fixing.summary(str(args.model), written, plan, result)
        if args.format == "markdown":
            from ..report import fix_markdown

            for line in fix_markdown.lines(found):
                say(console, line)
        else:
            if detail is not Detail.QUIET:
                screen.show(console, found, result, detail)
                text.show_more(console, str(args.model), result, verbose=detail is Detail.VERBOSE)
            if args.diff:
                say_lines(console, result.plan.diff())
            screen.show_written(console, found, dry=args.dry_run)
    warn(*result.notes)
    return int(args.exit_non_zero_if_left and bool(result.left))


def _report(args: Namespace, result: api.Result, rules: Sequence[Rule], options: Options) -> None:
    """Writes the report of a result.

    Raises:
        ModelError: it cannot be written.
    """
    from ..report.html import repairs  # only the commands that write a page load this

    output = None if args.dry_run else args.output
    with steps() as step:
        step("writing the report")
        write_report(args, repairs.fix_page(args.verb, args.model, output, result, rules, options))


def strip(args: Namespace) -> int:
    """`qdqgraph strip MODEL --nodes GLOB… -o OUT`: removes the pairs of the chosen layers."""
    if not args.nodes and not args.select and args.ranking is None and args.top is None and args.min_gain is None:
        raise ModelError("no layers chosen: use --nodes GLOB, --select CODES or --from FILE")
    rules = Invocation.of(args).named(split_codes(args.select)) if args.select else None
    result = api.strip(
        args.model,
        args.nodes,
        rules,
        select=[rule.code for rule in rules or ()],
        ranking=args.ranking,
        top=args.top,
        min_gain=args.min_gain,
        output=args.output,
        plan=args.plan,
        force=args.force,
        external=args.external,
        provenance=not args.no_provenance,
    )
    if args.json:
        from ..report import records  # each way of printing loads what it needs

        say_json(terminal(), records.result_json(str(args.model), str(args.output), result))
    else:
        text.show_stripped(terminal(), str(args.model), result)
    warn(*result.notes)
    return 0

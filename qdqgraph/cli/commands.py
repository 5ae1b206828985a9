"""The commands on models: each takes parsed arguments, calls `qdqgraph.api`, prints, and returns the exit code."""

from __future__ import annotations

from argparse import Namespace

from .. import api
from ..errors import ModelError
from ..report import engine as engines
from ..report import machine, text
from ..rulekit.finding import Finding
from .console import steps, terminal, warn
from .invocation import Invocation, split_codes


def check(args: Namespace) -> int:
    """`qdqgraph check MODEL…`: 0 clean, 1 findings."""
    run = Invocation.of(args)
    found: dict[str, tuple[Finding, ...]] = {}
    with steps() as step:
        for path in args.models:
            step(f"{path}: checking")
            found[str(path)] = api.check(path, run.rules(path), run.options(path), other_targets=True)
    console = terminal()
    here = {path: tuple(f for f in findings if not f.target) for path, findings in found.items()}
    if args.format == "json":
        text.say(console, machine.findings_json(here))
    for path, findings in here.items():
        if args.format == "text":
            text.show_findings(console, path, findings)
            text.show_elsewhere(console, path, [f for f in found[path] if f.target])
        elif args.format == "github":
            for line in machine.github_lines(path, findings):
                text.say(console, line)
    return int(any(here.values()))


def fix(args: Namespace) -> int:
    """`qdqgraph fix MODEL -o OUT`: 0 when a file was written, or would be under --dry-run."""
    if args.output is None and not args.dry_run:
        raise ModelError("say where to write with -o OUT, or try it with --dry-run")
    run, out = Invocation.of(args), None if args.dry_run else args.output
    with steps() as step:
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
            data=args.data,
            provider=args.provider,
            engines=args.verify,
            globs=(*args.only, *args.skip),
            progress=step,
        )
    console = terminal()
    if args.json:
        written = None if out is None else str(out)
        text.say(
            console,
            machine.result_json(str(args.model), written, result, result.numbers, result.fp16, result.engines),
        )
    else:
        text.show_result(console, str(args.model), result, result.numbers)
        if result.fp16 is not None:
            text.show_half(console, str(args.model), result.fp16)
        if result.engines is not None:
            engines.show_proof(console, result.engines)
        if args.diff:
            text.say(console, result.plan.diff())
    warn(*result.notes)
    return 0


def strip(args: Namespace) -> int:
    """`qdqgraph strip MODEL --nodes GLOB… -o OUT`."""
    if not args.nodes and not args.select:
        raise ModelError("say which layers with --nodes GLOB or --select CODES")
    rules = Invocation.of(args).named(split_codes(args.select)) if args.select else ()
    result = api.strip(args.model, args.nodes, rules, output=args.output, plan=args.plan, force=args.force)
    text.show_stripped(terminal(), str(args.model), result)
    warn(*result.notes)
    return 0


def apply(args: Namespace) -> int:
    """`qdqgraph apply PLAN MODEL -o OUT`."""
    api.apply(args.plan, args.model, output=args.output, force=args.force, note=warn)
    return 0


def undo(args: Namespace) -> int:
    """`qdqgraph undo PLAN MODEL -o OUT`: the original, byte for byte."""
    api.undo(args.plan, args.model, output=args.output, force=args.force, note=warn)
    return 0


def diff(args: Namespace) -> int:
    """`qdqgraph diff A B`: 0 where the quantization is the same, 1 where it differs."""
    console, lines = terminal(), api.diff(args.a, args.b)
    for line in lines:
        text.say(console, line)
    return int(bool(lines))


__all__ = ["apply", "check", "diff", "fix", "strip", "undo"]

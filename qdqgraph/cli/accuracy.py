"""The commands error and sensitivity."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from functools import wraps
from pathlib import Path

from .. import api
from ..api.accuracy import checked_error
from ..errors import ModelError
from ..model.writing.outputs import refuse_to_overwrite
from ..report.lines import say_json, say_lines
from ..verify.scores import Evaluate, Run
from .console import steps, terminal, warn
from .data import samples_of
from .invocation import Invocation
from .report import refuse_report, write_report
from .user_code import called, resolve_here


def error(args: Namespace) -> int:
    """`qdqgraph error MODEL --data DATA`: returns 0 if the layers were compared."""
    refuse_report(args, args.model, args.reference)
    if args.engine is not None:
        return _engine_error(args)
    run = Invocation.of(args)
    rules, options = run.rules(args.model), run.options(args.model)
    with steps() as step:
        found, checked, values = checked_error(
            args.model,
            rules=rules,
            options=options,
            **samples_of(args),
            reference=args.reference,
            evaluate=evaluate_of(args.eval),
            memory=args.memory,
            provider=args.provider,
            progress=step,
            values=args.report is not None,
        )
    if args.report is not None:
        from ..report.html import measured  # only the commands that write a page load this

        write_report(args, measured.error_page(args.model, found, checked, rules, values))
    if args.format == "json":
        from ..report import layer_records, records  # each way of printing loads what it needs

        say_json(terminal(), records.encoded("error", layer_records.AccuracyRecord.of(str(args.model), found)))
    elif args.format == "csv":
        from ..report import layer_records

        say_lines(terminal(), layer_records.table(found))
    else:
        from ..report import accuracy

        accuracy.show(terminal(), str(args.model), found)
    warn(*found.notes)
    return 0


def _engine_error(args: Namespace) -> int:
    """`qdqgraph error MODEL --data DATA --as TARGET`: returns 0 if the kernels were compared.

    Raises:
        ModelError: an option has no effect with --as.
    """
    needless = {"--reference": args.reference, "--target": args.target, "--provider cuda": args.provider != "cpu"}
    if found := [name for name, value in needless.items() if value]:
        raise ModelError(
            f"{found[0]} has no effect with --as, which compares two computations of one file: leave it out"
        )
    with steps() as step:
        numbers = api.engine_error(
            args.model,
            target=args.engine,
            **samples_of(args),
            evaluate=evaluate_of(args.eval),
            memory=args.memory,
            progress=step,
        )
    if args.report is not None:
        from ..report.html import measured  # only the commands that write a page load this

        run = Invocation.of(args)
        rules, options = run.rules(args.model), replace(run.options(args.model), target=args.engine)
        checked = api.check(args.model, rules, options)
        write_report(args, measured.engine_error_page(args.model, numbers, checked, rules))
    if args.format == "json":
        from ..report import kernel_records, records  # each way of printing loads what it needs

        record = kernel_records.EngineNumbersRecord.of(str(args.model), numbers)
        say_json(terminal(), records.encoded("error-as", record))
    elif args.format == "csv":
        from ..report import kernel_records

        say_lines(terminal(), kernel_records.table(numbers))
        warn(*numbers.notes)
    else:
        from ..report import kernels

        kernels.show(terminal(), str(args.model), numbers)
    return 0


def sensitivity(args: Namespace) -> int:
    """`qdqgraph sensitivity MODEL --data DATA`: returns 0 if every unit was measured."""
    state = None if args.output is None else _state(args.output)
    if state is not None and args.output != state:
        refuse_to_overwrite(args.output, force=args.force or state.exists())
    run = Invocation.of(args)
    with steps() as step:
        found = api.sensitivity(
            args.model,
            rules=run.rules(args.model),
            options=run.options(args.model),
            **samples_of(args),
            by=args.by,
            mode=args.mode,
            evaluate=evaluate_of(args.eval),
            output=state,
            force=args.force,
            reference=args.reference,
            provider=args.provider,
            progress=step,
        )
    from ..report import sensitivity as shown  # each way of printing loads what it needs

    if args.output is not None and args.output != state:
        from ..model.writing.texts import write_text

        write_text(shown.table(found) + "\n", args.output, force=True)
    if args.format == "json":
        say_json(terminal(), found.to_json().rstrip("\n"))
    elif args.format == "csv":
        say_lines(terminal(), shown.table(found))
    else:
        shown.show(terminal(), str(args.model), found)
    warn(*found.notes)
    return 0


def _state(output: Path) -> Path:
    """The JSON file that a run continues: the output, or the one beside a CSV.

    Raises:
        ModelError: the output is neither JSON nor CSV.
    """
    if output.suffix.lower() not in (".json", ".csv"):
        raise ModelError(f"{output}: name a .json or .csv file")
    return output if output.suffix.lower() == ".json" else output.with_suffix(".json")


def evaluate_of(name: str | None) -> Evaluate | None:
    """The user's function that scores a network; its errors are shown as the user's own.

    Raises:
        TorchError: there is no such function, or its module fails.
    """
    if name is None:
        return None
    function = resolve_here(name, "--eval")

    @wraps(function)
    def evaluate(run: Run) -> float:
        score: float = called(function, f"--eval {name}", run)
        return score

    return evaluate

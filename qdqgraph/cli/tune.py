"""The command tune."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from .. import api
from ..children import ends_with_us
from ..errors import ModelError, counted
from ..model.writing.texts import write_text
from ..report import tune as report
from ..report.lines import say_json
from .accuracy import evaluate_of
from .console import steps, terminal, warn
from .data import samples_of
from .invocation import Invocation
from .report import refuse_output, refuse_report, write_report
from .tune_arguments import storage as storage_of
from .words import words

ALONE = (
    *("output", "plan", "picture", "report", "workers", "storage", "library"),
    *("force", "json", "no_provenance", "profile_rules"),
)
"""Arguments that other workers do not get: they measure candidates, and one process builds, writes and prints."""


def tune(args: Namespace) -> int:
    """`qdqgraph tune MODEL --data DATA`: returns 0 if a candidate is within the budget."""
    storage = storage_of(args)
    if args.status:
        progress = api.tune_status(storage)
        if args.json:
            say_json(terminal(), report.to_json(progress))
        else:
            report.show_status(terminal(), progress)
        return 0
    if args.data is None:
        raise ModelError("tune measures candidates on samples of the inputs: give --data")
    if args.picture is not None:
        refuse_output(args, args.picture, (args.model, args.reference))
    refuse_report(args, args.model, args.reference)
    run = Invocation.of(args)
    with _helped(args.workers - 1, args, storage), steps() as step:
        found = api.tune(
            args.model,
            rules=run.rules(args.model),
            options=run.options(args.model),
            **samples_of(args),
            budget_db=args.budget_db,
            max_drop=args.max_drop,
            min_speed=args.min_speed,
            max_slower=args.max_slower,
            evaluate=evaluate_of(args.eval),
            device=args.device,
            fp32=args.fp32,
            measured=None if args.measured is None else tuple(args.measured),
            library=args.library,
            builds=args.builds,
            trials=args.trials,
            seed=args.seed,
            storage=storage,
            output=args.output,
            plan=args.plan,
            force=args.force,
            provenance=not args.no_provenance,
            reference=args.reference,
            memory=args.memory,
            provider=args.provider,
            progress=step,
        )
    if args.picture is not None:
        write_text(report.svg(found.outcome), args.picture, force=args.force)
    if args.report is not None:
        from ..report.html import measured  # only the commands that write a page load this

        rules, options = run.rules(args.model), run.options(args.model)
        write_report(args, measured.tune_page(args.model, args.output, found, rules, options))
    if args.json:
        say_json(terminal(), report.to_json(found.outcome))
    else:
        report.show(terminal(), found.outcome)
    warn(*found.outcome.notes, *found.result.notes)
    return 0


@contextmanager
def _helped(count: int, args: Namespace, storage: str) -> Iterator[None]:
    """Runs so many other processes of the same command, which share the storage and write nothing."""
    shared = {name: value for name, value in vars(args).items() if name not in ALONE}
    same = words(args.parser.below("tune"), Namespace(**shared, storage=storage))
    command = [sys.executable, "-m", "qdqgraph", *same]
    none = subprocess.DEVNULL
    others: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            others.append(subprocess.Popen(command, stdin=none, stdout=none, stderr=none, preexec_fn=ends_with_us()))
        yield
    finally:
        failed = [code for other in others if (code := other.poll())]
        for other in others:
            other.terminate()
        for other in others:
            other.wait()
    if failed:
        ended = f"{counted(len(failed), 'worker')} of {count} ended early, exit code {failed[0]}"
        warn(f"{ended}; the result is the same")

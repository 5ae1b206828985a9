"""The commands for engines: each accepts parsed arguments, calls `qdqgraph.api`, prints, and returns the exit code."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import api
from ..api.engines import with_graph
from ..engines.compare.storage import Storage
from ..engines.layers import NO_ENGINE, Engine
from ..engines.read.saved import to_json
from ..errors import ModelError
from ..model.dims import parsed
from ..model.writing.outputs import refuse_to_overwrite
from ..model.writing.texts import write_text
from ..report import engine as report
from ..report.lines import say, say_json
from ..report.records import DiffRecord, encoded
from ..report.timing import TimesRecord, show_times
from .console import steps, terminal, warn
from .invocation import Invocation
from .report import refuse_report, write_report

if TYPE_CHECKING:
    from ..report.pictures.sheet import Sheet


def engine(args: Namespace) -> int:
    """`qdqgraph engine WHAT`: runs build, read, forecast, time, diff or draw."""
    if getattr(args, "output", None) is not None:
        refuse_to_overwrite(args.output, force=args.force)
    verbs = {"build": _build, "read": _read, "forecast": _forecast, "time": _time, "diff": _diff, "draw": _draw}
    return int(verbs[args.what](args))


def draw(args: Namespace) -> int:
    """`qdqgraph draw MODEL -o OUT`: draws the Q/DQ graph with its groups and findings."""
    from ..report.pictures.networks import of_model  # only the commands that draw load this

    run = Invocation.of(args)
    rules, options = run.rules(args.model), run.options(args.model)
    return _picture(args, [of_model(args.model, rules, options, unfolded=args.unfolded)])


def _draw(args: Namespace) -> int:
    from ..report.pictures.engines import of_engines  # only the commands that draw load this

    chosen = ((args.a, args.profile_a), (args.b, args.profile_b))
    engines = [api.opened(path, args.target, profile) for path, profile in chosen if path is not None]
    warn(*(note for engine in engines for note in engine.notes if note.startswith(NO_ENGINE)))
    return _picture(args, of_engines(engines, args.by))


def _picture(args: Namespace, sheets: Sequence[Sheet]) -> int:
    """Writes sheets side by side, as SVG or DOT depending on the file extension."""
    from ..report.pictures.dot import dot
    from ..report.pictures.svg import svg

    encode = {".svg": svg, ".dot": dot}.get(args.output.suffix.lower())
    if encode is None:
        raise ModelError(f"{args.output}: use the file extension .svg or .dot")
    write_text(encode(sheets), args.output, force=args.force)
    say(terminal(), f"{args.output}: {sum(len(sheet.cards) for sheet in sheets)} boxes")
    return 0


def _forecast(args: Namespace) -> int:
    return _show(args, api.forecast(args.model, args.target, output=args.output, force=args.force))


def _build(args: Namespace) -> int:
    shapes = dict(map(parsed, args.shape))
    with steps() as step:
        step(f"building with {args.library}, at most {args.time_limit:g} s")
        found = api.build(
            args.model,
            args.library,
            mode=args.mode,
            shapes=shapes,
            time_limit=args.time_limit,
            memory_limit=args.memory_limit,
            keep=args.keep,
            output=args.output,
            force=args.force,
        )
    if args.library == "tensorrt-rtx" and not args.json:
        report.show_storage(terminal(), Storage.of(found))
    return _show(args, found)


def _read(args: Namespace) -> int:
    found = api.read_engine(args.layers, profile=args.profile, times=args.times, output=args.output, force=args.force)
    return _show(args, found)


def _time(args: Namespace) -> int:
    measured = None if args.measured is None else tuple(args.measured)
    found = api.estimate(args.engines, device=args.device, target=args.target, fp16=args.fp16, measured=measured)
    if args.json:
        say_json(terminal(), encoded("engine-time", TimesRecord.of(found)))
    else:
        show_times(terminal(), found)
    return 0


def _show(args: Namespace, found: Engine) -> int:
    """Prints an engine."""
    if args.json:
        say_json(terminal(), to_json(found))
    else:
        report.show_engine(terminal(), found, verbose=args.verbose)
    return 0


def _diff(args: Namespace) -> int:
    """Returns 0 if B is not worse than A, 1 if it is."""
    refuse_report(args, args.a, args.b)
    files = ((args.a, args.profile_a), (args.b, args.profile_b))
    (a, graph_a), (b, graph_b) = (with_graph(file, args.target, profile) for file, profile in files)
    found = api.compare(a, b)
    if args.report is not None:
        from ..report.html import pages  # only the commands that write a page load this

        write_report(args, pages.diff_page((args.a, args.b), found, (graph_a, graph_b)))
    if args.json:
        say_json(terminal(), encoded("engine-diff", DiffRecord.of(found)))
    else:
        report.show_diff(terminal(), found, verbose=args.verbose)
    return int(bool(found.worse))

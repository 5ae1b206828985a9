"""The commands about engines: each takes parsed arguments, prints to stdout, and returns the exit code."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from . import catalog
from .commands import terminal
from .engines import tensorrt
from .engines.diff import diff
from .engines.forecast import forecast
from .engines.layers import Engine
from .engines.limits import Limits
from .engines.refusal import explain
from .engines.saved import open_engine, to_json
from .engines.storage import Storage
from .engines.tensorrt import Build, RefusedError
from .errors import EngineError, ModelError
from .files import read_model, write_text
from .graph import Graph
from .repair import Options, resolve, scan
from .report import engine as report
from .report import text
from .target import Target


def engine(args: Namespace) -> int:
    """`qdqgraph engine WHAT`."""
    return int({"build": _build, "read": _read, "forecast": _forecast, "diff": _diff}[args.what](args))


def opened(path: Path, target: Target, profile: Path | None = None) -> Engine:
    """The engine in a file; of a model its forecast.

    Raises:
        ModelError, EngineError: the file cannot be read, or holds something else.
    """
    if path.suffix.lower() == ".onnx":
        return forecast(Graph(read_model(path), path.parent), target, path.name)
    return open_engine(path, profile=profile)


def _forecast(args: Namespace) -> int:
    graph = Graph(read_model(args.model), args.model.parent)
    return _show(args, forecast(graph, Target.named(args.target), args.model.name))


def _build(args: Namespace) -> int:
    limits = Limits(args.time_limit, args.memory_limit)
    how = Build(args.mode, dict(map(_shape, args.shape)), limits, args.keep)
    found = built(args.model, args.library, how)
    if args.library == "tensorrt-rtx" and not args.json:
        report.show_storage(terminal(), Storage.of(found))
    return _show(args, found)


def built(model: Path, library: str, how: Build) -> Engine:
    """The engine that a library builds of a model.

    Raises:
        EngineError: it cannot be built; a refusal is translated into findings of the rules.
    """
    graph = Graph(read_model(model), model.parent)
    try:
        return tensorrt.build(model, library, how)
    except RefusedError as error:
        findings = resolve(graph, scan(graph, catalog.load()), Options())[1]
        lines = [refusal.sentence for refusal in explain(graph, error.errors, findings)]
        raise EngineError("\n  ".join([str(error), *lines])) from error


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME:1x3x224x224, as trtexec writes shapes."""
    name, _, dims = text.rpartition(":")
    sizes = dims.split("x")
    if not name or not all(size.isdecimal() for size in sizes):
        raise ModelError(f"--shape {text}: write it as NAME:1x3x224x224")
    return name, tuple(map(int, sizes))


def _read(args: Namespace) -> int:
    return _show(args, open_engine(args.layers, profile=args.profile, times=args.times))


def _show(args: Namespace, found: Engine) -> int:
    """Prints an engine, and saves it where asked to."""
    if args.output is not None:
        write_text(to_json(found), args.output, force=args.force)
    if args.json:
        text.say(terminal(), to_json(found))
    else:
        report.show_engine(terminal(), found)
    return 0


def _diff(args: Namespace) -> int:
    """0 where B is not worse, 1 where it is."""
    target = Target.named(args.target)
    a, b = opened(args.a, target, args.profile_a), opened(args.b, target, args.profile_b)
    found = diff(a, b)
    if args.json:
        text.say(terminal(), report.diff_json(found))
    else:
        report.show_diff(terminal(), found)
    return int(bool(found.worse))


__all__ = ["engine"]

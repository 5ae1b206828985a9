"""The commands: each takes parsed arguments, prints to stdout, and returns the exit code."""

from __future__ import annotations

import fnmatch
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..calibration import inputs
from ..calibration.ranges import measured_ranges
from ..engines.builders.prove import prove
from ..engines.forecast.cost import priced
from ..engines.forecast.forecast import forecast
from ..errors import ModelError, PlanError, reason
from ..fp16 import Fp16Model, refuse_target, with_fp16
from ..graph.graph import Graph
from ..model import runtime
from ..model.files import external_files, is_canonical, read_model, refuse_to_overwrite, write_model, write_text
from ..model.protos import names as tensor_names
from ..repair.options import Options
from ..repair.plan import Plan
from ..repair.rounds import Result, elsewhere, examine, quantized
from ..repair.rounds import fix as repair
from ..repair.rounds import strip as unquantized
from ..report import engine as engines
from ..report import machine, text
from ..rulekit import catalog
from ..rulekit.finding import Finding
from ..rulekit.rule import Rule
from ..targets.target import DEFAULT, Target
from ..verify.difference import differences
from ..verify.verification import verify
from .settings import Settings

WIDE = 200
"""Columns for tables in a pipe, where rich would assume 80 and break names."""


def check(args: Namespace) -> int:
    """`qdqgraph check MODEL…`: 0 clean, 1 findings."""
    run = Run.of(args)
    found: dict[str, Sequence[Finding]] = {}
    others: dict[str, Mapping[str, Sequence[Finding]]] = {}
    with _steps() as step:
        for path in args.models:
            step(f"{path}: checking")
            rules, options = run.rules(path), run.options(path)
            graph = quantized(Graph(read_model(path), path.parent, target=Target.named(options.target)))
            found[str(path)] = priced(examine(graph, rules, options), forecast(graph, path.name))
            others[str(path)] = elsewhere(graph, rules)
    console = terminal()
    if args.format == "json":
        text.say(console, machine.findings_json(found))
    for path, findings in found.items():
        if args.format == "text":
            text.show_findings(console, path, findings)
            text.show_elsewhere(console, path, findings, others[path])
        elif args.format == "github":
            for line in machine.github_lines(path, findings):
                text.say(console, line)
    return int(any(found.values()))


def fix(args: Namespace) -> int:
    """`qdqgraph fix MODEL -o OUT`: 0 when a file was written, or would be under --dry-run."""
    if args.output is None and not args.dry_run:
        raise ModelError("say where to write with -o OUT, or try it with --dry-run")
    if args.keep_io and not args.fp16:
        raise ModelError("--keep-io says what --fp16 does to inputs and outputs; give both")
    if args.exact and args.fp16:
        raise ModelError("--fp16 rounds numbers, so it is not --exact; give one of them")
    if not args.dry_run:
        _free(args)
    run, model, folder = Run.of(args), read_model(args.model), args.model.parent
    rules, options = run.rules(args.model), run.options(args.model)
    if args.fp16:
        refuse_target(Target.named(options.target))
    external_files(model, folder)
    _known(model, (*args.only, *args.skip))
    with _steps() as step:
        result = repair(model, rules, options, folder=folder, progress=step)
        result, half = _halved(args, model, result, options, step) if args.fp16 else (result, None)
        verification = None
        if not args.no_numerics:
            step("comparing outputs in ONNX Runtime")
            verification = verify(model, result, folder, data=args.data, provider=args.provider)
        proof = None
        if args.verify:
            step("building before and after on TensorRT-RTX")
            proof = prove(args.model, model, result.model, Target.named(options.target))
        if not args.dry_run:
            step("checking and writing")
            _warn(write_model(result.model, args.output, args.model, force=args.force))
    console = terminal()
    if args.json:
        out = None if args.dry_run else str(args.output)
        text.say(console, machine.result_json(str(args.model), out, result, verification, half, proof))
    else:
        text.show_result(console, str(args.model), result, verification)
        if half is not None:
            text.show_half(console, str(args.model), half)
        if proof is not None:
            engines.show_proof(console, proof)
        if args.diff:
            text.say(console, result.plan.diff())
    if not args.dry_run:
        _save_plan(args, result, model)
    return 0


def _halved(
    args: Namespace, model: onnx.ModelProto, result: Result, options: Options, step: Callable[[str], None]
) -> tuple[Result, Fp16Model]:
    """The repair with FP16 as its last step; ranges come from the data of the numeric check."""
    folder, ranges = args.model.parent, None
    if not args.no_numerics and runtime.available():
        step("measuring ranges in ONNX Runtime")
        feeds = inputs.load(args.data, model) if args.data else inputs.noise(model)
        ranges = measured_ranges(model, feeds, folder)
    step("FP16 around INT8")
    return with_fp16(model, result, folder, keep_io=args.keep_io, ranges=ranges, skip=options.skip)


def strip(args: Namespace) -> int:
    """`qdqgraph strip MODEL --nodes GLOB… -o OUT`."""
    if not args.nodes and not args.select:
        raise ModelError("say which layers with --nodes GLOB or --select CODES")
    _free(args)
    rules = Run.of(args).selected(args.select) if args.select else ()
    model = read_model(args.model)
    result = unquantized(model, args.nodes, rules, folder=args.model.parent)
    _warn(write_model(result.model, args.output, args.model, force=args.force))
    text.show_stripped(terminal(), str(args.model), result)
    _save_plan(args, result, model)
    return 0


def _free(args: Namespace) -> None:
    """Refuses outputs that could not be written at the end, or only over something.

    Raises:
        ModelError: as `refuse_to_overwrite`.
    """
    if args.output is not None and args.plan is not None and args.output.resolve() == args.plan.resolve():
        raise ModelError(f"{args.plan} would be written twice, as the model and as its plan: name another file")
    for path in (args.output, args.plan):
        if path is not None:
            refuse_to_overwrite(path, force=args.force)


def _known(model: onnx.ModelProto, globs: Sequence[str]) -> None:
    """Refuses globs of --only and --except that name nothing: a slip there repairs too little or too much.

    Raises:
        ModelError: a glob matches no node and no tensor.
    """
    names = {*(node.name for node in model.graph.node), *tensor_names(model.graph)}
    for glob in globs:
        if not fnmatch.filter(names, glob):
            raise ModelError(f"no node or tensor is named {glob!r}")


def _save_plan(args: Namespace, result: Result, model: onnx.ModelProto) -> None:
    if args.plan is None:
        return
    write_text(result.plan.to_json(), args.plan, force=args.force)
    if not is_canonical(args.model, model):
        _warn(f"{args.model} is not written as protobuf writes it; undo restores the same model, not the same bytes")


def apply(args: Namespace) -> int:
    """`qdqgraph apply PLAN MODEL -o OUT`."""
    return _planned(args, lambda plan: plan)


def undo(args: Namespace) -> int:
    """`qdqgraph undo PLAN MODEL -o OUT`: the original, to the byte."""
    return _planned(args, Plan.inverse)


def _planned(args: Namespace, direction: Callable[[Plan], Plan]) -> int:
    try:
        plan = Plan.from_json(args.plan.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{args.plan}: cannot be read: {reason(error)}") from error
    model: onnx.ModelProto = direction(plan).apply(read_model(args.model))
    _warn(write_model(model, args.output, args.model, force=args.force))
    return 0


def diff(args: Namespace) -> int:
    """`qdqgraph diff A B`: 0 where the quantization is the same, 1 where it differs."""
    a, b = (Graph(read_model(path), path.parent) for path in (args.a, args.b))
    console, lines = terminal(), list(differences(a, b))
    for line in lines:
        text.say(console, line)
    return int(bool(lines))


@dataclass(frozen=True)
class Run:
    """What a command runs with: the rules that were loaded, the settings file, and what the command line says."""

    loaded: tuple[Rule, ...]
    moved: Mapping[str, str]
    settings: Settings
    args: Namespace

    @classmethod
    def of(cls, args: Namespace) -> Run:
        """Loads the rules.

        Raises:
            RuleError: a rule or the settings file is wrong.
        """
        settings = Settings() if args.no_config else Settings.near(Path.cwd())
        if args.config is not None:
            settings = Settings.read(args.config)
        paths = {path.resolve(): path for path in (*settings.rules, *args.rules)}.values()
        return cls(catalog.load(paths), catalog.redirects(paths), settings, args)

    def rules(self, model: Path) -> tuple[Rule, ...]:
        """The rules to run on a model."""
        own = self.settings.of(model)
        given, left_out = _codes(self.args.select), _codes(self.args.ignore)
        chosen, ignored = given or own.get("select", ()), [*own.get("ignore", ()), *left_out]
        for name in (*chosen, *ignored):
            if now := self.moved.get(name.upper(), self.moved.get(name)):
                _warn(f"{name} is now {now}")
        return catalog.select(self.loaded, chosen, ignored, self.moved)

    def options(self, model: Path) -> Options:
        """What a repair of a model may do."""
        own, args = self.settings.of(model), self.args
        return Options(
            policy=args.policy or own.get("policy", "max"),
            max_bits_lost=own.get("max-bits-lost", 1.0) if args.max_bits_lost is None else args.max_bits_lost,
            exact=getattr(args, "exact", False) or own.get("exact", False),
            only=(*getattr(args, "only", ()), *own.get("only", ())),
            skip=(*getattr(args, "skip", ()), *own.get("except", ())),
            also=self._requested([*_codes(getattr(args, "also", ())), *own.get("also", ())]),
            target=args.target or own.get("target", DEFAULT),
            weights=getattr(args, "weights", None),
        )

    def _requested(self, names: Sequence[str]) -> tuple[str, ...]:
        """Codes of the rules named under --also; a name that no rule has is an error."""
        return tuple(r.code for r in self.selected(names)) if names else ()

    def selected(self, entries: Sequence[str]) -> tuple[Rule, ...]:
        """The rules of these codes, prefixes or names, and no others.

        Raises:
            RuleError: no rule has one of them.
        """
        return catalog.select(self.loaded, _codes(entries), (), self.moved)


def _codes(entries: Sequence[str]) -> list[str]:
    """Codes, prefixes or names as they are given on the command line: repeated, or separated by commas."""
    return [code for entry in entries for code in entry.split(",") if code]


def _warn(sentence: str) -> None:
    if sentence:
        Console(stderr=True).print(f"qdqgraph: {sentence}", markup=False, highlight=False, soft_wrap=True)


def terminal() -> Console:
    """Where results go: wide where nobody watches."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what runs; nothing where stderr is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda message: None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading")
        yield lambda message: bar.update(task, description=message)


__all__ = ["Run", "apply", "check", "diff", "fix", "strip", "terminal", "undo"]

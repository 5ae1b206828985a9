"""Text output with rich: coloured on a terminal, plain unwrapped lines in a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from ..errors import counted
from ..fp16 import Fp16Model
from ..repair.repair import Repair
from ..rulekit.catalog import builtin_folder
from ..rulekit.rule import Counterexample, Documentation, Rule
from .drawing import Drawing, lines
from .examples import example_graph
from .lines import say, say_lines

if TYPE_CHECKING:
    from .results import Result

SHOWN = 20
"""Number of layers or nodes named for each reason; --json has all."""


def show_more(console: Console, path: str, result: Result, *, verbose: bool = False) -> None:
    """What the screen of a repair does not show: layers in floating point, FP16, and the engines."""
    show_floats(console, path, result)
    if result.fp16 is not None:
        show_fp16(console, path, result.fp16)
    if result.engines is not None:
        from . import engine  # only here: most repairs build no engine

        engine.show_proof(console, result.engines, verbose=verbose)


def show_floats(console: Console, path: str, result: Repair) -> None:
    """Which weighted layers stay in floating point and why, one line per reason."""
    reasons: dict[str, list[str]] = {}
    for layer in result.floats:
        reasons.setdefault(layer.reason, []).append(f"{layer.layer} ({layer.operator})")
    for reason, layers in reasons.items():
        more = f" and {len(layers) - SHOWN} more, all with --json" if len(layers) > SHOWN else ""
        say(console, f"{path}: {', '.join(layers[:SHOWN])}{more}: stays in floating point: {reason}")


def show_stripped(console: Console, path: str, result: Result) -> None:
    """One line for each of the first inputs and outputs that have float values now, how many more there are, each
    request that cannot be met, and the file."""
    shown = result.applied[:SHOWN] if len(result.applied) > SHOWN + 1 else result.applied
    for finding in shown:
        say(console, f"{path}: {finding.message}; it now has the float values")
    if more := len(result.applied) - len(shown):
        say(console, f"{path}: {more} more inputs and outputs now have the float values, all with --json")
    for finding in result.left:
        if finding.code == "strip":
            say(console, f"{path}: {finding.message}; it stays: {finding.help}")
    if result.written is not None:
        say(console, f"Wrote {result.written}")


def show_fp16(console: Console, path: str, half: Fp16Model) -> None:
    """Which nodes stay FP32 and why, one line per reason."""
    reasons: dict[str, list[str]] = {}
    for kept in half.kept:
        reasons.setdefault(kept.reason, []).append(f"{kept.node} ({kept.op})")
    say(console, Text("FP16", "bold"))
    change = f"rounding changes a scale by at most {half.scale_change:.2%}"
    say(console, f" {counted(half.casts, 'Cast')}, {change}; {len(half.kept)} stay FP32{':' if half.kept else ''}")
    for reason, nodes in reasons.items():
        more = f" and {len(nodes) - SHOWN} more, all with --json" if len(nodes) > SHOWN else ""
        say(console, f"{path}: {', '.join(nodes[:SHOWN])}{more}: stays FP32: {reason}")


def show_rule(console: Console, rule: Rule) -> None:
    """A rule's documentation and its examples."""
    say(console, Text(f"{rule.code} {rule.name} ({rule.safety.value})", "bold"))
    say_lines(console, "\n".join(line.strip() for line in (rule.__doc__ or "").strip().splitlines()))
    for example in rule.examples:
        counter = isinstance(example, Counterexample)
        say(console, "")
        say(console, Text(f"{'Counterexample' if counter else 'Example'}: {example.title}", "bold"))
        for part in ("model",) if counter else ("before", "after"):
            model: str | None = getattr(example, part)
            say(console, Text(f"{part}:" if model else "after: reported only, nothing is applied", "dim"))
            if model:
                picture = [] if counter else ["", *lines(Drawing.of(example_graph(rule, example.title, model))), ""]
                say_lines(console, "\n".join("    " + line for line in (*picture, *dedented(model))))


def dedented(text: str) -> list[str]:
    """The lines of a text without their common indentation and without empty lines."""
    lines = [line for line in text.splitlines() if line.strip()]
    margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    return [line[margin:] for line in lines]


def show_rules(console: Console, rules: Iterable[Rule]) -> None:
    """One line per rule: code, safety, name, source, first sentence."""
    for rule in rules:
        where, first = source(rule), Documentation.of(rule).summary
        say(console, Text(f"{rule.code}  {rule.safety.value:<6}  {rule.name:<26}  {where:<46}  {first}"))


def source(rule: Rule) -> str:
    """The source of a rule: its path among the built-in rules, else its file."""
    root, file = builtin_folder(), Path(rule.file)
    return f"rules/{file.relative_to(root).as_posix()}" if file.is_relative_to(root) else file.as_posix()

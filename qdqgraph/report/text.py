"""Text output with rich: coloured on a terminal, plain unwrapped lines in a pipe."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import counted
from ..fp16 import Fp16Model
from ..repair.corrections import Correction
from ..repair.repair import Repair
from ..repair.seed import CODE
from ..rulekit.catalog import builtin_folder
from ..rulekit.finding import Finding
from ..rulekit.rule import Counterexample, Documentation, Rule
from ..verify.verification import Sides, Verification
from .drawing import Drawing, lines
from .examples import example_graph
from .lines import cell, colored_line, finding_line, say, say_lines, share_line, tabulate

if TYPE_CHECKING:
    from .results import Result

SHOWN = 20
"""Number of rows in the table of changed scales; --json has all."""
FAR = 10.0
"""Below this SQNR in dB against float values on both sides, quantization fails on the inputs: no value is typical."""
NEARER = 3.0
"""The least difference in dB that makes one side the noisy one: twice the noise power."""


def show_all(console: Console, path: str, result: Result) -> None:
    """Everything that a repair of a file has to say, except its notes."""
    show_result(console, path, result, result.numbers)
    show_floats(console, path, result)
    if result.fp16 is not None:
        show_fp16(console, path, result.fp16)
    if result.engines is not None:
        from . import engine  # only here: most repairs build no engine

        engine.show_proof(console, result.engines)
    show_share(console, path, result)


def show_result(console: Console, path: str, result: Repair, verification: Verification | None) -> None:
    """One line per applied finding, the tables, then the remaining findings.

    The layers that `quantize` quantized are counted in the table only: they are all layers but those in `show_floats`.
    """
    for finding in (f for f in result.applied if f.code != CODE):
        say(console, colored_line(path, finding, "bold green", finding.advice))
    if result.changes:
        tabulate(console, _changes(result))
    tabulate(console, _summary(result, verification))
    if result.left:
        say(console, Text("Not repaired:", "bold"))
        for finding in result.left:
            say(console, finding_line(path, finding))


def show_share(console: Console, path: str, result: Result) -> None:
    """What runs in INT8 before and after the repair, in one line."""
    if result.int8 is not None:
        say(console, share_line(path, result.int8[0].change(result.int8[1]), result.int8[1]))


def show_floats(console: Console, path: str, result: Repair) -> None:
    """Which weighted layers stay in floating point and why, one line per reason."""
    reasons: dict[str, list[str]] = {}
    for layer in result.floats:
        reasons.setdefault(layer.reason, []).append(f"{layer.layer} ({layer.operator})")
    for reason, layers in reasons.items():
        more = f" and {len(layers) - SHOWN} more, all with --json" if len(layers) > SHOWN else ""
        say(console, f"{path}: {', '.join(layers[:SHOWN])}{more}: stays in floating point: {reason}")


def show_stripped(console: Console, path: str, result: Repair) -> None:
    """One line per input that reads float values now."""
    for finding in result.applied:
        say(console, f"{path}: {finding.message}; it now reads the float values")


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


def _changes(result: Repair) -> Table:
    table = Table(title="Scales changed", title_justify="left", box=None)
    measured = any(change.method for change in result.changes)
    for column in ("tensor", "own scale", "new scale", "bits lost", *(("measured by",) if measured else ())):
        table.add_column(column, justify="left" if column == "tensor" else "right", overflow="fold")
    worst = sorted(result.changes, key=lambda c: (-c.lost, c.site))
    for change in worst[:SHOWN]:
        lost = f"{change.lost:.2f}" if change.lost >= 0 else f"clips {2**-change.lost:.2f}x"
        method = (change.method,) if measured else ()
        table.add_row(cell(change.site), f"{change.own:.6g}", f"{change.new:.6g}", lost, *method)
    if len(worst) > SHOWN:
        table.add_row(f"... {len(worst) - SHOWN} more, all with --json", "", "", "")
    return table


def _summary(result: Repair, verification: Verification | None) -> Table:
    table = Table(title="Repair", title_justify="left", box=None, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    lost = [c.lost for c in result.changes]
    bits = f", bits lost: at most {max(lost):.2f}, median {statistics.median(lost):.2f}" if lost else ""
    rows = {
        "activation pairs": f"{result.pairs_before} -> {result.pairs_after}"
        f" ({result.pairs_added} added, {result.pairs_removed} removed)",
        "groups with one scale": str(result.groups),
        "scales changed": f"{len(lost)}{bits}",
        **_legality_loss(result),
        **_start(result),
        **{c.name: _correction(c) for c in result.corrections},
        "repairs": _counted(result.applied) or "none: nothing to do",
        "findings left": _counted(result.left) or "none",
    }
    for name, value in rows.items():
        table.add_row(cell(name), cell(value))
    if verification is not None:
        for row in _numbers(verification):
            table.add_row(*map(cell, row))
    return table


def _legality_loss(result: Repair) -> dict[str, str]:
    """The row on repairs other than ties that lose resolution; empty if none does."""
    lost = [f.bits_lost for f in result.applied if f.tie is None and f.bits_lost]
    return {"bits lost by legality": f"{len(lost)}, at most {max(lost):.2f}"} if lost else {}


def _correction(done: Correction) -> str:
    """What a step on data did, and what that changes at the outputs."""
    examined = counted(done.examined, done.noun)
    if done.gain is None:
        return f"0 of {examined}: it helps none on the held-back samples"
    changes = [layer.before - layer.after for layer in done.layers]
    errors = f"median layer error {statistics.median(changes):+.2f} dB, best {min(changes):+.2f} dB"
    gain = f"outputs {done.gain.before:.1f} -> {done.gain.after:.1f} dB on the held-back samples"
    if not done.kept:
        fault = "not better" if done.gain.strict else "worse"
        return f"not applied: {gain}, which is {fault} by more than the noise of {done.gain.noise:.2f} dB"
    return f"{len(done.layers)} of {examined}, {errors}; {gain}"


def _start(result: Repair) -> dict[str, str]:
    """The rows on the inlined functions and the raised opset; empty if there are none."""
    rows = {"functions inlined": ", ".join(result.functions)} if result.functions else {}
    if result.opset is not None:
        rows["opset raised"] = f"{result.opset.before} -> {result.opset.after}: {result.opset.why}"
    return rows


def _numbers(verification: Verification) -> Iterable[tuple[str, str]]:
    what = f"{verification.samples} sample(s) of your data" if verification.data else "seeded noise"
    for name, agreement in verification.outputs.items():
        value = "bit-identical" if agreement.identical else f"SQNR {agreement.sqnr:.1f} dB"
        if agreement.identical and "nothing" in agreement.caveat:
            yield f"output {name}", f"{agreement.caveat}, on {what}"
            continue
        more = f"; {agreement.caveat}" if agreement.caveat else ""
        sides = verification.floats.get(name)
        more += f"; {_sides(sides)}" if sides is not None else ""
        yield f"output {name}", f"{value} against {verification.reference}, on {what}{more}"
    if verification.source:
        yield "samples", verification.source
    if verification.skipped:
        yield "numeric check", f"skipped: {verification.skipped}"
    if verification.note:
        yield "numeric check", verification.note


def _sides(sides: Sides) -> str:
    """Which of the two models is nearer to the float values."""
    shown = ("equal" if math.isinf(db) and db > 0 else f"{db:.1f} dB" for db in (sides.original, sides.repaired))
    found = "against float values: input {}, result {}".format(*shown)
    if max(sides.original, sides.repaired) < FAR:
        return f"{found}: both are far, so these inputs tell little; give typical ones with --data"
    if sides.repaired - sides.original > NEARER:
        return f"{found}: the input is the noisy side"
    return f"{found}: the result is the noisy side" if sides.original - sides.repaired > NEARER else found


def _counted(findings: Iterable[Finding]) -> str:
    counts = Counter(f"{f.code} {f.name}" for f in findings)
    return ", ".join(f"{name} x{count}" for name, count in sorted(counts.items()))


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

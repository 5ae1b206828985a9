"""The numbers of an engine's kernels as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from ..engines.execute.kinds import KINDS, LABEL
from ..engines.execute.numbers import Difference, EngineNumbers, KernelRow
from .lines import cell, say, tabulate
from .summary.words import decibels

PAIRED = ("INT8 that differ", "steps", "SQNR dB")
"""Columns that each kernel has alone and accumulated."""


def show(console: Console, path: str, found: EngineNumbers) -> None:
    """A table of the kernels that differ, the outputs, and what the reasons and numbers mean.

    Kernels without any difference, alone and accumulated, are only counted.
    """
    title = f"Numbers of {found.engine} against ONNX Runtime's, {LABEL}"
    table = Table(title=title, title_justify="left", box=None)
    for column in ("kernel", "kind", "computes", "stored"):
        table.add_column(column, overflow="fold")
    for where in ("alone", "accumulated"):
        for column in PAIRED:
            table.add_column(f"{column}, {where}", justify="right", overflow="fold")
    table.add_column("reasons", overflow="fold")
    differing = [row for row in found.kernels if any(d.largest for d in (row.alone, row.accumulated))]
    for row in differing:
        table.add_row(*map(cell, _cells(row)))
    if differing:
        tabulate(console, table)
    same = len(found.kernels) - len(differing)
    where = f"{len(found.kernels)} kernels on {found.samples} samples of {found.data}"
    say(console, f"{path}: {where}; {same} without any difference")
    for name, difference in found.outputs.items():
        say(console, f"{path}: output {name}: {_output(difference)}")
    if (both := found.scores) is not None:
        change = both.engine - both.runtime
        score = f"score {both.runtime:.6g} in ONNX Runtime, {both.engine:.6g} in the engine"
        say(console, f"{path}: {score}, difference {change:+.4g}")
    for name, count in Counter(kind for row in differing for kind in row.reasons).items():
        text, source = KINDS[name]
        say(console, f"{path}: {name} ({count} kernels): {text} ({source})")
    for name, reason in found.skipped.items():
        say(console, f"{path}: {name}: not compared: {reason}")
    for note in found.notes:
        say(console, f"note: {note}")


def _cells(row: KernelRow) -> Iterable[str]:
    yield row.kernel
    yield row.kind
    yield row.precision
    yield row.stored
    for difference in (row.alone, row.accumulated):
        yield "" if difference.differ is None else _share(difference.differ)
        yield "" if difference.steps is None else str(difference.steps)
        yield decibels(difference.sqnr, unit="")
    yield " ".join(row.reasons)


def _share(share: float) -> str:
    """A share in per cent, or per million where it is small."""
    return f"{share:.2%}" if share >= 1e-4 or not share else f"{share * 1e6:.2g} ppm"


def _output(difference: Difference | None) -> str:
    if difference is None:
        return "another shape"
    if not difference.largest:
        return "equal"
    return f"SQNR {decibels(difference.sqnr)}, largest difference {difference.largest:.4g}"

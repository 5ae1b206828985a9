"""The error of each layer as text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from ..verify.layers import Accuracy, LayerRow
from .lines import cell, say, tabulate
from .summary.words import decibels

COLUMNS = (
    "alone dB",
    "accumulated dB",
    "cosine",
    "largest error",
    "input scales",
    "clipped",
    "bytes",
    "groups",
    "findings",
)
LEFT = ("groups", "findings")
"""Columns of words."""


def show(console: Console, path: str, found: Accuracy) -> None:
    """A table of the layers, worst first, then what was not compared.

    Cosine and largest error are those of the layer alone; scales and clipped shares are those of its inputs, in order;
    groups are those of its inputs, with the number of their sites.
    """
    table = Table(title="Errors of layers, worst first", title_justify="left", box=None)
    table.add_column("layer", overflow="fold")
    table.add_column("operator", overflow="fold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in LEFT else "right", overflow="fold")
    for row in found.layers:
        table.add_row(*map(cell, _cells(row)))
    tabulate(console, table)
    say(console, f"{path}: {len(found.layers)} layers on {found.samples} samples of {found.data}")
    if found.scores is not None:
        both = f"score {found.scores.unquantized:.6g} in float, {found.scores.quantized:.6g} quantized"
        say(console, f"{path}: {both}, difference {found.scores.difference:+.4g}")
    for name, reason in found.skipped.items():
        say(console, f"{path}: {name}: not compared: {reason}")


def _cells(row: LayerRow) -> Iterable[str]:
    yield row.layer
    yield row.op
    yield decibels(row.alone.sqnr, unit="")
    yield decibels(row.accumulated.sqnr, unit="")
    yield f"{row.alone.cosine:.5f}"
    yield f"{row.alone.largest:.4g}"
    yield ", ".join("?" if i.scale is None else f"{i.scale:.4g}" for i in row.inputs)
    yield ", ".join("?" if i.clipped is None else f"{i.clipped:.2%}" for i in row.inputs)
    yield f"{row.bytes:,}" if row.bytes else ""
    yield ", ".join(dict.fromkeys(f"{i.group.name} ({i.group.sites})" for i in row.inputs))
    yield " ".join(row.findings)

"""A ranking of units as text and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from ..calibration.sqnr import EXACT
from ..printable import printable
from ..verify.sensitivity.levels import Level
from ..verify.sensitivity.ranking import Sensitivity, UnitRow
from .lines import cell, say, tabulate

COLUMNS = (
    "rank",
    "name",
    "gain",
    "cost",
    "sqnr_off_db",
    "sqnr_on_db",
    "score_off",
    "score_on",
    "bytes",
    "layers",
    "nodes",
    "sites",
)
"""The columns of the CSV. Several layers, nodes or sites of a row are separated by spaces; what was not measured is
empty."""
SHOWN = 3
"""Layers in a row of the table."""


def show(console: Console, path: str, found: Sensitivity) -> None:
    """A table of the units, worst first, then what the whole model has."""
    scored = found.quantized.score is not None
    table = Table(title="Units, worst first", title_justify="left", box=None)
    table.add_column(found.asked.by, overflow="fold")
    for column in ("gain" if scored else "gain dB", "cost", "bytes saved"):
        table.add_column(column, justify="right")
    table.add_column("layers", overflow="fold")
    for row in found.units:
        table.add_row(*map(cell, _cells(row, scored)))
    tabulate(console, table)
    data = f" on {found.samples} samples of {found.data}" if found.samples else ""
    say(console, f"{path}: {len(found.units)} units{data}; {_level(found.quantized)} quantized")
    if scored:
        say(console, f"{path}: {_level(found.unquantized)} in float")


def _cells(row: UnitRow, scored: bool) -> Iterable[str]:
    yield row.name
    yield "" if row.gain is None else f"{row.gain:+.4g}" if scored else f"{row.gain:+.2f}"
    yield "" if row.cost is None else f"{row.cost:+.4g}" if scored else f"{row.cost:.1%}"
    yield f"{row.bytes:,}"
    more = f", … {len(row.nodes) - SHOWN} more" if len(row.nodes) > SHOWN else ""
    yield ", ".join(row.nodes[:SHOWN]) + more


def _level(level: Level) -> str:
    score = "" if level.score is None else f"score {level.score:.6g}"
    sqnr = "" if level.sqnr_db is None or level.sqnr_db == EXACT else f"mean SQNR {level.sqnr_db:.2f} dB"
    return ", ".join(filter(None, (score, sqnr))) or "exact"


def table(found: Sensitivity) -> str:
    """The units as CSV with a head of `COLUMNS`, worst first, without a newline at the end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, row in enumerate(found.units, 1):
        both = (row.off, row.on)
        writer.writerow(
            (
                rank,
                printable(row.name),
                row.gain,
                row.cost,
                *(None if level is None else level.sqnr_db for level in both),
                *(None if level is None else level.score for level in both),
                row.bytes,
                printable(" ".join(row.layers)),
                printable(" ".join(row.nodes)),
                printable(" ".join(row.sites)),
            )
        )
    return text.getvalue().rstrip("\n")

"""Stores measured cells in a file, so that an interrupted run continues, and prints the tables of
docs/measurements/exporters.md."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .measure import Built, Cell

COLUMNS = (
    "network",
    "builds before",
    "after",
    "INT8 conv before",
    "after",
    "bits lost",
    "SQNR vs exporter, dB",
    "exporter vs float, dB",
    "fixed vs float, dB",
    "exact repairs exact",
    "fix s",
)
SUMMARY = (
    "exporter",
    "files",
    "build as exported",
    "build after `fix`",
    "all conv INT8 before",
    "after",
    "max bits lost",
    "lowest SQNR vs exporter, dB",
)


def keep(cell: Cell, results: Path) -> None:
    """Adds a measured cell to the file, one JSON line."""
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(cell)) + "\n")


def kept(results: Path) -> dict[str, Cell]:
    """The cells in the file, by name; the last one of a name counts."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row.update(before=Built(**row["before"]), after=Built(**row["after"]), asked=tuple(row["asked"]))
    return {row["file"]: Cell(**row) for row in rows}


def told(cells: Mapping[str, Sequence[Cell]], code: str) -> Iterator[str]:
    """The lines of the page: a summary, one table per exporter, every failure message, and outdated rows.

    Args:
        cells: the cells of each exporter; a cell without a file has `failed` and an empty `digest`.
        code: digest of today's rules and sources, from `measure.code`.
    """
    yield from _table(SUMMARY, [_summary(name, row) for name, row in cells.items() if row])
    for name, row in cells.items():
        if row:
            yield from ("", f"### {name}", "")
            yield from _table(COLUMNS, [_row(cell) for cell in row if cell.digest])
            yield from _notes(row)
            old = [cell.file.split(".")[0] for cell in row if cell.digest and cell.code != code]
            if old:
                yield f"\nMeasured with other rules or sources than today's: {', '.join(old)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _row(cell: Cell) -> list[str]:
    yes = [_yes(not b.refused) for b in (cell.before, cell.after)]
    convolutions = ["-" if b.refused else f"{b.int8} of {b.convolutions}" for b in (cell.before, cell.after)]
    decibels = [_db(value) for value in (cell.sqnr, cell.exporter, cell.fixed)]
    bits = ", ".join([f"{cell.bits:.2f}", *(f"{code} x{count}" for code, count in cell.moved.items())])
    return [
        cell.file.split(".")[0] + (f" (`--also {','.join(cell.asked)}`)" if cell.asked else ""),
        *yes,
        *convolutions,
        bits,
        *decibels,
        "-" if cell.unrun else _yes(cell.exact),
        f"{cell.seconds:.1f}",
    ]


def _summary(name: str, cells: Sequence[Cell]) -> list[str]:
    made = [cell for cell in cells if cell.digest]
    counts = [
        len(made),
        sum(not c.before.refused for c in made),
        sum(not c.after.refused for c in made),
        sum(c.before.complete for c in made),
        sum(c.after.complete for c in made),
    ]
    finite = [c.sqnr for c in made if not math.isnan(c.sqnr)]
    lowest = _db(min(finite, default=math.nan))
    return [name, *map(str, counts), f"{max((c.bits for c in made), default=0.0):.2f}", lowest]


def _notes(cells: Sequence[Cell]) -> Iterator[str]:
    for cell in cells:
        network = cell.file.split(".")[0]
        if not cell.digest:
            yield f"\n{network}: the exporter wrote no file: `{cell.failed}`"
        elif cell.failed:
            yield f"\n{network}: **not repaired**: `{cell.failed}`"
        elif cell.unrun:
            yield f"\n{network}: no SQNR, ONNX Runtime cannot run the exported file: `{cell.unrun}`"


def _yes(value: bool) -> str:
    return "yes" if value else "**no**"


def _db(value: float) -> str:
    if math.isnan(value):
        return "-"
    return {math.inf: "equal", -math.inf: "no signal"}.get(value, f"{value:.1f}")

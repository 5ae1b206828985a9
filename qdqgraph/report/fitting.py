"""`show_fitting`: a table in the width of a terminal. Words wrap, numbers do not; what is too wide becomes lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

LEAST = 12
"""Columns that words need at least; a narrower column cannot be read."""
ANY = 100_000


def show_fitting(console: Console, table: Table) -> None:
    """Prints a table. If its numbers and `LEAST` columns for each column of words do not fit into a line, each row is
    printed as lines: its first cell, then the names and values of the others."""
    wide = console.options.update_width(ANY)
    numbers = [column for column in table.columns if column.justify == "right"]
    room = sum(LEAST for column in table.columns if column.justify != "right")
    for column in numbers:
        column.no_wrap = True
    needed = room + len(table.columns) + sum(_width(console, wide, column) for column in numbers)
    if needed <= console.width or Measurement.get(console, wide, table).maximum <= console.width:
        console.print(table)
        return
    if table.title is not None:
        console.print(Text(str(table.title), "italic"))
    for row in range(table.row_count):
        cells = [list(column.cells)[row] for column in table.columns]
        console.print(_text(cells[0]), soft_wrap=True)
        for line in _lines(table.columns[1:], cells[1:], console.width):
            console.print(Text(line), soft_wrap=True)


def _width(console: Console, options: Any, column: Column) -> int:
    return max((Measurement.get(console, options, cell).maximum for cell in (column.header, *column.cells)), default=0)


def _lines(columns: list[Column], cells: list[Any], width: int) -> Iterator[str]:
    """The names and values of cells that are not empty, as many in a line as fit."""
    line = ""
    for column, cell in zip(columns, cells, strict=True):
        part = f"{_text(column.header).plain} {_text(cell).plain}" if _text(cell).plain else ""
        if line and part and len(line) + 3 + len(part) > width:
            yield line
            line = ""
        if part:
            line = f"{line}  {part}" if line else f"    {part}"
    if line:
        yield line


def _text(cell: Any) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))

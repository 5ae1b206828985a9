"""What a search found, as text, JSON and a picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html import escape

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..calibration.sqnr import EXACT
from ..documents import document
from ..errors import counted
from ..printable import printable
from ..search.decisions import FLOAT
from ..search.found import quality
from ..search.outcome import Built, Outcome, Point, SearchStatus
from ..verify.sensitivity.levels import Level
from .lines import say, tabulate

SHOWN = 10
"""Findings that the text lists."""
BLUE, RED, GREEN = "#4477aa", "#ee6677", "#228833"
WIDTH, HEIGHT, EDGE = 720, 420, 60
"""Of the picture and its margin, in pixels."""


def to_json(found: Outcome | SearchStatus) -> str:
    """What a search found, or how far it is, as the document that `--json` prints."""
    name = "tune" if isinstance(found, Outcome) else "tune-status"
    return document(name, json.loads(msgspec.json.encode(found)))


def show(console: Console, found: Outcome) -> None:
    """The chosen model beside those it is compared with, the front, and what the remaining findings would change."""
    say(console, Text(f"{found.file}: {found.budget.text}", "bold"))
    scored = found.chosen.found.searched.score is not None
    table = _table("", scored)
    for point in (found.floats, found.base):
        table.add_row(*_cells(point))
    table.add_row(*_cells(found.chosen, found.real), style="bold")
    tabulate(console, table)
    say(console, f"Chosen: {_decisions(found.chosen)}")
    table = _table("Front, fastest first", scored)
    for point in found.front:
        table.add_row(*_cells(point))
    tabulate(console, table)
    if found.left:
        unit = "" if found.base.found.searched.sqnr_db is None else " dB"
        say(console, Text(f"Left as it is ({len(found.left)}), and what its tie alone would change", "bold"))
        for left in found.left[:SHOWN]:
            change = "" if left.change is None else f" {left.change:+.4g}{unit},"
            say(console, f"  {left.code} {left.place}:{change} {left.bytes:,} bytes; {left.reason}")
        if len(found.left) > SHOWN:
            say(console, f"  and {len(found.left) - SHOWN} more: --json lists them")
    builds = f", {found.builds} builds" if found.builds else ""
    say(console, f"{found.candidates} candidates measured on {found.samples} samples of {found.data}{builds}")
    say(console, f"Times are estimates for {found.device} unless built: they rank, they do not predict")


def show_status(console: Console, found: SearchStatus) -> None:
    """How far a search is."""
    counts = f"{found.measured} measurements done, {found.started} started, {found.waiting} waiting"
    say(console, f"{found.storage}: {counts}")
    if found.front:
        table = _table("Front so far, fastest first", found.front[0].found.searched.score is not None)
        for point in found.front:
            table.add_row(*_cells(point))
        tabulate(console, table)


def _table(title: str, scored: bool) -> Table:
    table = Table(title=title or None, title_justify="left", box=None)
    table.add_column("model", overflow="fold")
    for column in ("ms", *(["score"] if scored else []), "dB", "dB held back", "bytes", "built"):
        table.add_column(column, justify="right")
    return table


def _cells(point: Point, real: Sequence[Level] | None = None) -> list[str]:
    found = point.found
    searched, held = (found.searched, found.held) if real is None else real
    return [
        printable(point.name),
        f"{found.ms:.4g}",
        *([] if searched.score is None else [f"{searched.score:.4f}"]),
        _db(searched),
        "" if held is None else _db(held),
        f"{found.bytes:,}",
        _built(point.built),
    ]


def level_text(level: Level, unit: str = "") -> str:
    """A quality: the score, or the SQNR with a unit such as " dB"; "exact" without a difference."""
    if level.score is None and level.sqnr_db == EXACT:
        return "exact"
    return f"{quality(level):.4f}" if level.score is not None else f"{quality(level):.2f}{unit}"


def _db(level: Level) -> str:
    return "" if level.sqnr_db is None else level_text(Level(level.sqnr_db, level.outputs_db, None))


def _built(built: Built | None) -> str:
    if built is None:
        return ""
    if built.refused:
        return "refused"
    if built.ms is not None:
        return f"{built.ms:.3f} ms"
    return "" if built.bytes is None else f"{built.bytes:,} bytes, {built.int8} INT8 convolutions"


def _decisions(point: Point) -> str:
    """How many units are in floating point, and how many scales by which method."""
    count = Counter(d.option for d in point.candidate.decisions)
    floats = count.pop(FLOAT, 0)
    parts = [f"{counted(floats, 'unit')} in floating point"] if floats else []
    parts += [f"{counted(number, 'scale')} by {option}" for option, number in sorted(count.items())]
    return f"{point.candidate.start}; {', '.join(parts) or 'nothing else changed'}"


def svg(found: Outcome) -> str:
    """A picture of the front: time to the right, quality upward."""
    marked = [("front", BLUE, found.front), ("repaired", RED, (found.base,)), ("chosen", GREEN, (found.chosen,))]
    points = [p for _, _, mine in marked for p in mine]
    times, levels = [p.found.ms for p in points], [p.found.quality for p in points]
    what = "SQNR in dB" if points[0].found.searched.score is None else "score"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{EDGE}" y="20">{escape(printable(f"{found.file}: {found.budget.text}"))}</text>',
        f'<path d="M{EDGE} {EDGE} V{HEIGHT - EDGE} H{WIDTH - EDGE}" fill="none" stroke="black"/>',
        f'<text x="{WIDTH - EDGE}" y="{HEIGHT - 12}" text-anchor="end">estimated ms on {escape(found.device)}</text>',
        f'<text x="12" y="{EDGE - 12}">{what}</text>',
    ]
    for value in dict.fromkeys((min(times), max(times))):
        x = _at(value, times, EDGE + 20, WIDTH - EDGE - 20)
        lines.append(f'<text x="{x:.0f}" y="{HEIGHT - EDGE + 16}" text-anchor="middle">{value:.3g}</text>')
    for value in dict.fromkeys((min(levels), max(levels))):
        y = _at(value, levels, HEIGHT - EDGE - 20, EDGE + 20)
        lines.append(f'<text x="{EDGE - 6}" y="{y + 4:.0f}" text-anchor="end">{value:.4g}</text>')
    for index, (name, color, mine) in enumerate(marked):
        lines.append(f'<circle cx="{WIDTH - 150}" cy="{EDGE + 16 * index}" r="5" fill="{color}"/>')
        lines.append(f'<text x="{WIDTH - 138}" y="{EDGE + 16 * index + 4}">{name}</text>')
        for point in mine:
            x = _at(point.found.ms, times, EDGE + 20, WIDTH - EDGE - 20)
            y = _at(point.found.quality, levels, HEIGHT - EDGE - 20, EDGE + 20)
            title = escape(printable(f"{point.name}: {point.found.ms:.4g} ms, {point.found.quality:.4g}"))
            lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color}"><title>{title}</title></circle>')
    return "\n".join([*lines, "</svg>", ""])


def _at(value: float, values: Sequence[float], low: float, high: float) -> float:
    """The position of a value on an axis."""
    span = max(values) - min(values)
    return low + (high - low) * ((value - min(values)) / span if span else 0.5)

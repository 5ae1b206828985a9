"""Sheets side by side as SVG, below their legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from ...printable import printable
from .layout import Places, Point, places
from .sheet import ALARM, BAR, BORDER, GROUPS, LOUD, WIRE, Card, Key, Sheet, legend
from .text import CHIP, CHIPS, LINE, PADDING, ROW, TITLE, Lines, height, width

MARGIN, HEAD = 20, 15
"""Pixels: around each sheet, and the font size of its title."""
SWATCH = 18
"""Pixels: a mark of the legend."""
LEGEND_WIDTH = 700
"""Pixels: the least width of a picture, for its legend."""
INK, SOFT = "#111111", "#444444"
FONTS = "Helvetica, Arial, 'Liberation Sans', sans-serif"


def svg(sheets: Sequence[Sheet]) -> str:
    """Sheets side by side, each below its title and totals; every number is whole."""
    bodies: list[tuple[Sheet, Lines, Places]] = []
    for sheet in sheets:
        lines = Lines(sheet.cards)
        wires = [(wire.source, wire.target) for wire in sheet.wires]
        bodies.append((sheet, lines, places([height(card) for card in sheet.cards], lines.wide, wires)))
    each = [max(found.width, _head_width(sheet)) + 2 * MARGIN for sheet, _, found in bodies]
    whole = max(LEGEND_WIDTH, sum(each))
    marks, top = _legend(legend(tuple(sheets)), whole)
    top += MARGIN + max((HEAD + ROW * len(sheet.totals) for sheet in sheets), default=0) + MARGIN
    parts: list[str] = [*marks]
    left = 0.0
    for (sheet, lines, found), wide in zip(bodies, each, strict=True):
        parts += _head(sheet, left + MARGIN, top - 2 * MARGIN - ROW * len(sheet.totals) + HEAD)
        shift = left + (wide - found.width) / 2
        parts += [f'<g transform="translate({shift:.0f} {top:.0f})">', *_sheet(sheet, lines, found), "</g>"]
        left += wide
    tall = top + max((found.height for *_, found in bodies), default=0) + MARGIN
    size = f'width="{whole:.0f}" height="{tall:.0f}" viewBox="0 0 {whole:.0f} {tall:.0f}"'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONTS}" font-size="{LINE}">'
    return "\n".join([start, '<rect width="100%" height="100%" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"


def _head_width(sheet: Sheet) -> float:
    return max(width(printable(sheet.title), HEAD), *(width(printable(line), LINE) for line in (*sheet.totals, "")))


def _head(sheet: Sheet, x: float, y: float) -> Iterator[str]:
    yield _text(sheet.title, x, y, size=HEAD, weight="bold")
    for index, line in enumerate(sheet.totals, start=1):
        yield _text(line, x, y + ROW * index + 2, fill=SOFT)


def _legend(keys: Sequence[Key], whole: float) -> tuple[list[str], float]:
    """The entries in lines of this width, and the height of all."""
    found, x, y = ['<g class="legend">'], float(MARGIN), float(MARGIN)
    for key in keys:
        mark = SWATCH + 6
        wide = mark + width(key.text, LINE) + MARGIN
        if x > MARGIN and x + wide > whole:
            x, y = float(MARGIN), y + ROW + 6
        found += [*_mark(key, x, y), _text(key.text, x + mark, y + 11)]
        x += wide
    return [*found, "</g>"], y + ROW


def _mark(key: Key, x: float, y: float) -> Iterator[str]:
    if key.bar:
        yield _rect(x, y + 5, SWATCH, 4, BAR)
    elif key.group:
        yield from _chip(1, x, y + 1)
    elif key.fill:
        loud = bool(key.line) or key.fill == LOUD
        yield _rect(x, y + 1, SWATCH, 12, key.fill, ALARM if loud else BORDER, 3 if loud else 1)
    elif key.line:
        dashes = ' stroke-dasharray="3 3"' if key.dashed else ""
        weight = 1 if key.dashed else 3
        yield f'<path d="M{x:.0f} {y + 7:.0f} h{SWATCH}" stroke="{key.line}" stroke-width="{weight}"{dashes}/>'


def _sheet(sheet: Sheet, lines: Lines, found: Places) -> Iterator[str]:
    thick: dict[int, float] = {}
    for wire in sheet.wires:
        thick[wire.source] = max(thick.get(wire.source, 0.0), wire.thick)
    for source, points in found.trunks.items():
        x, y = found.cards[source]
        start = (x + lines.wide / 2, y + height(sheet.cards[source]))
        yield f'<path d="{_trunk(start, points)}" {_stroke(thick[source])}/>'
    for wire, start, end in zip(sheet.wires, found.starts, found.ends, strict=True):
        yield f'<path d="{_curve(start, end)}" {_stroke(wire.thick, reformat=wire.reformat, fused=wire.fused)}>'
        yield f"<title>{_xml(wire.tip)}</title></path>"
    for index, (card, (x, y)) in enumerate(zip(sheet.cards, found.cards, strict=True)):
        yield from _card(card, lines.title(index), lines.words(card), x, y, lines.wide)


def _stroke(thick: float, *, reformat: bool = False, fused: bool = False) -> str:
    dashes = ' stroke-dasharray="3 3"' if fused and not reformat else ""
    weight = max(3.0, thick) if reformat else thick
    return f'fill="none" stroke="{ALARM if reformat else WIRE}" stroke-width="{weight:g}"{dashes}'


def _trunk(start: Point, points: Sequence[Point]) -> str:
    """A line through lanes: curves between layers, straight lines within them."""
    way, before = "", start
    for top, bottom in zip(points[::2], points[1::2], strict=True):
        way += _curve(before, top) + f"V{bottom[1]:.0f}"
        before = bottom
    return way


def _curve(start: Point, end: Point) -> str:
    (a, top), (b, bottom) = start, end
    middle = (top + bottom) / 2
    return f"M{a:.0f} {top:.0f}C{a:.0f} {middle:.0f} {b:.0f} {middle:.0f} {b:.0f} {bottom:.0f}"


def _card(card: Card, title: str, words: str, x: float, y: float, wide: int) -> Iterator[str]:
    tall = height(card)
    yield f"<g><title>{_xml(card.tip)}</title>" if card.tip else "<g>"
    border, weight = (ALARM, 3) if card.loud else (BORDER, 1)
    yield _rect(x, y, wide, tall, card.fill, border, weight, corner=4)
    if card.share:
        yield _rect(x + 3, y + tall - 6, max(1.0, card.share * (wide - 6)), 4, BAR)
    yield _text(title, x + PADDING, y + ROW, size=TITLE, weight="600")
    row = y + ROW
    if words or card.groups:
        row += ROW
        yield _text(words, x + PADDING, row, fill=SOFT)
        for index, group in enumerate(reversed(card.groups[:CHIPS]), start=1):
            yield from _chip(group, x + wide - 4 - CHIP * index, row - 10)
    for line, fill in (*((t, INK) for t in card.facts), *((t, ALARM) for t in card.alarms)):
        row += ROW
        yield _text(line, x + PADDING, row, fill=fill)
    yield "</g>"


def _chip(group: int, x: float, y: float) -> Iterator[str]:
    """The mark of a group: its colour and its number."""
    yield _rect(x, y, CHIP - 2, 12, GROUPS[(group - 1) % len(GROUPS)], BORDER, corner=5)
    yield (
        f'<text x="{x + (CHIP - 2) / 2:.0f}" y="{y + 10:.0f}" text-anchor="middle" font-size="10" fill="{INK}">'
        f"{group}</text>"
    )


def _rect(
    x: float, y: float, wide: float, tall: float, fill: str, border: str = "", weight: int = 1, corner: int = 0
) -> str:
    edge = f' stroke="{border}" stroke-width="{weight}"' if border else ""
    curve = f' rx="{corner}"' if corner else ""
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{tall:.0f}"{curve} fill="{fill}"{edge}/>'


def _text(text: str, x: float, y: float, *, size: int = LINE, fill: str = INK, weight: str = "") -> str:
    style = (f' font-size="{size}"' if size != LINE else "") + (f' font-weight="{weight}"' if weight else "")
    return f'<text x="{x:.0f}" y="{y:.0f}"{style} fill="{fill}">{_xml(text)}</text>'


def _xml(text: str) -> str:
    """A name as XML text; tooltips have line breaks."""
    return escape(printable(text, keep="\n"))

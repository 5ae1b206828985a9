"""A picture as values: cards, the wires between them, and what their colours mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PRECISIONS: Mapping[str, str] = {
    "INT8": "#9bd3a0",
    "FP8": "#b9e3b0",
    "INT4": "#8fd0c8",
    "FP16": "#f7dc8c",
    "BF16": "#f0cf78",
    "FP32": "#f2a97a",
    "INT32": "#d9d9ec",
    "INT64": "#d9d9ec",
}
"""Fill of a card by the precision of its kernel."""
OTHER, PAIR, END = "#e8e8e8", "#cfe3f7", "#ffffff"
"""Fills of a card without a known precision, of a Q or DQ, and of an input or output of the graph."""
LOUD, ALARM = "#ff9d9d", "#a00018"
"""Fill of a reformat; border and text of findings and reformats."""
BORDER, WIRE, BAR = "#666666", "#888888", "#333333"
GROUPS = ("#8dd3c7", "#fdb462", "#80b1d3", "#fb8072", "#bebada", "#b3de69", "#fccde5", "#ffed6f")
"""Colours of groups, in turn; each mark has the number of its group too."""


@dataclass(frozen=True)
class Card:
    """A box of the picture.

    Attributes:
        title: a name; shortened at its front where it is too long.
        words: what it computes; shortened at its end where it is too long.
        facts: lines with numbers, never shortened.
        alarms: red lines, never shortened: finding codes and reformats.
        groups: numbers of the groups of its sites, from 1.
        fill: its colour.
        meaning: what the fill means, for the legend; "" if it needs no explanation.
        loud: whether its border is thick and red.
        share: length of its bar, as a fraction of its width, 0 to 1.
        tip: the tooltip.
    """

    title: str
    words: str = ""
    facts: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    fill: str = OTHER
    meaning: str = ""
    loud: bool = False
    share: float = 0.0
    tip: str = ""


@dataclass(frozen=True)
class Wire:
    """A tensor from one card to another, by index; the source comes first.

    Attributes:
        thick: the width of its line in pixels.
        reformat: whether its bytes are converted on the way.
        fused: whether one kernel computes both ends, so that the tensor is not stored.
        tip: the tooltip.
    """

    source: int
    target: int
    thick: float = 1.0
    reformat: bool = False
    fused: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Sheet:
    """One network or engine.

    Attributes:
        title: its name.
        totals: lines below the title, with numbers.
        cards: sources before readers.
        wires: at most one from each card to each other.
        bar: what the bars show, and their longest; "" without bars.
        widths: what the widths of wires show; "" if all are 1.
    """

    title: str
    totals: tuple[str, ...]
    cards: tuple[Card, ...]
    wires: tuple[Wire, ...]
    bar: str = ""
    widths: str = ""


@dataclass(frozen=True)
class Key:
    """An entry of the legend.

    Attributes:
        text: the meaning.
        fill: colour of a box; "" for none.
        line: colour of a line or border; "" for none.
        group: whether the mark is that of a group.
        dashed: whether the line is dashed.
        bar: whether the mark is a bar.
    """

    text: str
    fill: str = ""
    line: str = ""
    group: bool = False
    dashed: bool = False
    bar: bool = False


def legend(sheets: tuple[Sheet, ...]) -> tuple[Key, ...]:
    """What the colours and marks of these sheets mean; only those that occur."""
    cards = [card for sheet in sheets for card in sheet.cards]
    wires = [wire for sheet in sheets for wire in sheet.wires]
    keys = [Key(m, fill=f) for m, f in dict.fromkeys((c.meaning, c.fill) for c in cards if c.meaning)]
    if any(card.loud and card.fill != LOUD for card in cards):
        keys.append(Key("finding", fill=END, line=ALARM))
    if any(card.groups for card in cards):
        keys.append(Key("group: sites with this number share one scale", fill=GROUPS[0], group=True))
    if any(wire.reformat for wire in wires):
        keys.append(Key("reformat on the way", line=ALARM))
    if any(wire.fused for wire in wires):
        keys.append(Key("within one kernel, not stored", line=WIRE, dashed=True))
    keys += [Key(text, bar=True) for text in dict.fromkeys(sheet.bar for sheet in sheets) if text]
    keys += [Key(text, line=WIRE) for text in dict.fromkeys(sheet.widths for sheet in sheets) if text]
    return tuple(keys)

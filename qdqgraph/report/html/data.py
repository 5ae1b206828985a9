"""What the report page shows, as plain values: the JSON inside the page, which its scripts render.

Every text is printable (`qdqgraph.printable`), because names in models are arbitrary. Boxes are addressed by number: a
number is the same layer before and after. Numbers that are unknown or not finite are None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ... import __version__
from .parts import Engines, Tone, View

Cell = str | float | int | None
"""A value of a table."""
State = Literal["repairable", "follows", "left", "repaired", "gone"]
"""Of a finding: a repair removes it, removes it with others, or leaves it; it was repaired, or removed with others."""


@dataclass(frozen=True)
class Verdict:
    """The first thing a reader sees: a sentence, what follows from it, and what to do."""

    tone: Tone
    text: str
    detail: str = ""
    command: str = ""


@dataclass(frozen=True)
class Card:
    """A figure of the summary: its value, or before and after.

    Attributes:
        label: what it is.
        value: the value, or the one after the repair.
        before: the value before; "" if there is one value only.
        note: the change, the unit, or what it was measured against.
        tone: whether the change is good.
        share: the value as a share of a whole, 0 to 1, drawn as a bar; None without one.
    """

    label: str
    value: str
    before: str = ""
    note: str = ""
    tone: Tone = "plain"
    share: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table: `kind` says how its values are written and sorted."""

    label: str
    kind: Literal["text", "name", "code", "count", "bytes", "share", "decibels", "number", "scale"] = "text"
    help: str = ""


@dataclass(frozen=True)
class Table:
    """A table that sorts and filters.

    Attributes:
        id: its name in links.
        boxes: for each row the box that it is about; None for none. Empty if no row has one.
        tones: for each row the severity of its code. Empty if no row has one.
        note: what to know about it.
    """

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    boxes: tuple[int | None, ...] = ()
    tones: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Rule:
    """The reason of a finding: the documentation of its rule. `page` is its file in docs/rules of the source tree."""

    code: str
    name: str
    safety: str
    summary: str
    why: str
    when_not: str
    source: str
    page: str


@dataclass(frozen=True)
class Item:
    """A finding.

    Attributes:
        why: why it remains; "" if it does not.
        box: the box of its place; None if the graph has none.
        boxes: the boxes of the tensors that its tie joins.
        bits: the largest loss of resolution by its repair, in bits; None if no scale changes.
    """

    code: str
    name: str
    severity: str
    state: State
    place: str
    node: str
    message: str
    help: str
    why: str
    bytes: int
    bits: float | None
    box: int | None
    boxes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Point:
    """A candidate of a search: estimated time against quality."""

    name: str
    ms: float
    quality: float
    role: Literal["front", "chosen", "base", "float"]


@dataclass(frozen=True)
class Front:
    """The front of a search. `unit` is that of the quality."""

    points: tuple[Point, ...]
    unit: str
    device: str


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        command: the command that wrote it: check, fix, engine diff, error, tune.
        files: what it is about.
        codes: the table of the findings by code.
        dearest: the most expensive places.
        views: the graph before and after, or one graph, or none.
        tables: further tables.
        notes: what else to know, one sentence each.
    """

    command: str
    title: str
    files: tuple[str, ...]
    target: str
    verdict: Verdict
    cards: tuple[Card, ...] = ()
    codes: Table | None = None
    dearest: Table | None = None
    findings: tuple[Item, ...] = ()
    rules: tuple[Rule, ...] = ()
    views: tuple[View, ...] = ()
    engines: Engines | None = None
    front: Front | None = None
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    version: str = __version__

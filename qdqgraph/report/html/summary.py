"""The summary of the page: the table by code, the most expensive places, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...engines.compare.totals import percent
from ...engines.share import Int8Share
from ...errors import counted
from ...printable import printable
from ..summary import words
from ..summary.checking import CheckSummary, CodeRow, Place
from ..summary.fixing import FixSummary
from .data import Card, Cell, Column, Item, Table
from .parts import Tone

PLACES = 10
"""Most expensive places that the summary shows."""
SHARE = Column("of all", "share", "Of all bytes that the network reads and writes in a run, by forecast")
ENDS: Mapping[str, Column] = {
    "repaired": Column("repaired", "count"),
    "gone": Column("resolved", "count", "Gone when others were repaired"),
    "left": Column("left", "count"),
}
"""What became of findings in a repair."""
BYTES = Column("bytes a run", "bytes", "Bytes of activations that the findings cost together; one tensor counts once")


def by_code(rows: Sequence[CodeRow]) -> Table | None:
    """The findings of `check`, a row for each rule."""
    follows = any(row.follows for row in rows)
    more = (Column("resolved", "count", "Gone when others are repaired"),) if follows else ()
    columns = (
        Column("code", "code"),
        Column("rule"),
        Column("findings", "count"),
        Column("repairable", "count"),
        *more,
        Column("left", "count"),
        BYTES,
        SHARE,
    )
    cells = tuple(
        (row.code, row.name, row.findings, row.repairable, *((row.follows,) if follows else ()), row.left)
        + ((row.bytes, row.share) if row.bytes else (None, None))
        for row in rows
    )
    return _coloured("codes", "Findings by rule", columns, cells, rows) if rows else None


def outcomes(items: Sequence[Item], rows: Sequence[CodeRow], later: int) -> Table | None:
    """What became of the findings in a repair, a row for each rule.

    Args:
        items: the findings.
        rows: the findings of the file before the repair.
        later: how many of the findings were not there before it.
    """
    costs = {row.code: row for row in rows}
    codes = dict.fromkeys((*costs, *(item.code for item in items)))
    states = [state for state in ENDS if state != "gone" or any(item.state == state for item in items)]
    columns = (
        Column("code", "code"),
        Column("rule"),
        Column("findings", "count"),
        *(ENDS[state] for state in states),
        BYTES,
        SHARE,
    )
    cells: list[tuple[Cell, ...]] = []
    for code in codes:
        mine = [item for item in items if item.code == code]
        counts = (sum(item.state == state for item in mine) for state in states)
        row = costs.get(code)
        cost = (row.bytes, row.share) if row is not None and row.bytes else (None, None)
        cells.append((code, mine[0].name, len(mine), *counts, *cost))
    note = f"{later:,} of them were uncovered by other repairs" if later else ""
    return _coloured("codes", "Findings by rule", columns, tuple(cells), rows, note) if cells else None


def _coloured(
    id: str,
    title: str,
    columns: tuple[Column, ...],
    cells: tuple[tuple[Cell, ...], ...],
    rows: Sequence[CodeRow],
    note: str = "",
) -> Table:
    """A table whose codes have the colour of their severity."""
    severity = {row.code: row.severity.value for row in rows}
    tones = tuple(severity.get(str(row[0]), "warning") for row in cells)
    return Table(id, title, columns, cells, tones=tones, note=note)


def dearest(places: Sequence[Place], box: Callable[[str], int | None]) -> Table | None:
    """The places whose findings cost most, before a repair."""
    costly = [place for place in places if place.bytes][:PLACES]
    columns = (Column("place", "name"), Column("code", "code"), Column("bytes a run", "bytes"), SHARE)
    rows = tuple((printable(p.tensor), " ".join(p.codes), p.bytes, p.share) for p in costly)
    boxes = tuple(box(place.tensor) for place in costly)
    return Table("dearest", "Most expensive places", columns, rows, boxes) if rows else None


def findings_card(found: CheckSummary) -> Card:
    """How many findings a checked file has."""
    total, errors = len(found.findings), len(found.errors)
    refused = f"{errors:,} for which TensorRT refuses the file" if errors else ""
    note = "; ".join(filter(None, (found.outcomes, refused))) if total else ""
    return Card("Findings", f"{total:,}", note=note, tone="bad" if errors else "warn" if total else "good")


def checked_cards(found: CheckSummary) -> tuple[Card, ...]:
    """The figures of a checked file."""
    cost = found.bytes / found.int8.bytes if found.int8.bytes else 0.0
    costs = Card("Cost of the findings", f"{found.bytes:,}", note=f"{words.percent(cost)} of all bytes", share=cost)
    shares = (found.int8,)
    return (findings_card(found), *((costs,) if found.bytes else ()), share_card(shares), *traffic_cards(shares))


def repaired_cards(found: FixSummary) -> tuple[Card, ...]:
    """The figures of a repair."""
    before, after = found.before, found.after
    findings = Card(
        "Findings",
        f"{after.findings or 0:,}",
        "" if before.findings in (None, after.findings) else f"{before.findings:,}",
        "",
        "bad" if after.errors else "good" if after.findings == 0 else "plain",
    )
    shares = tuple(share for share in (before.int8, after.int8) if share is not None)
    forecast = (share_card(shares), *traffic_cards(shares)) if shares else ()
    loss = () if before.findings is None else _loss(found)  # `quantize` chooses the first scales
    return (findings, *forecast, *loss, *_numbers(found))


def share_card(shares: Sequence[Int8Share]) -> Card:
    """What runs in INT8, by a forecast: one, or before and after."""
    first, last = shares[0], shares[-1]
    part = last.int8 / last.weighted if last.weighted else None
    tone = (
        _better(-first.int8, -last.int8) if len(shares) > 1 else "bad" if last.weighted and not last.int8 else "plain"
    )
    layers = [f"{share.int8} of {share.weighted}" for share in shares]
    unless = "; before: as if TensorRT accepted the file" if len(shares) > 1 else ", as if TensorRT accepted the file"
    note = _source(shares) + (unless if first.refused else "")
    return Card(f"Weighted layers in {last.kind}", layers[-1], _before(layers), note, tone, part)


def traffic_cards(shares: Sequence[Int8Share]) -> tuple[Card, ...]:
    """What moves between the kernels of an engine, from any source: of one, or before and after."""
    last = shares[-1]
    unsized = f"; {counted(last.unsized, 'tensor')} of unknown size" if last.unsized else ""
    return (
        _card("Bytes between kernels", [s.bytes for s in shares], f"read and written in a run{unsized}"),
        _card("Kernels", [s.kernels for s in shares], _source(shares)),
        _card("Reformats", [s.reformats for s in shares], "kernels that only convert or copy"),
    )


def _source(shares: Sequence[Int8Share]) -> str:
    """Where the figures come from."""
    return printable(" → ".join(dict.fromkeys(share.source for share in shares)))


def _card(label: str, values: Sequence[int], note: str) -> Card:
    shown = [f"{value:,}" for value in values]
    change = percent(values[0], values[-1])
    return Card(
        label, shown[-1], _before(shown), "; ".join(filter(None, (change, note))), _better(values[0], values[-1])
    )


def _before(values: Sequence[str]) -> str:
    return values[0] if len(values) > 1 and values[0] != values[-1] else ""


def _better(before: float, after: float) -> Tone:
    """The tone of a figure of which less is better."""
    return "plain" if before == after else "good" if after < before else "bad"


def _loss(found: FixSummary) -> tuple[Card, ...]:
    """The resolution that the repair costs."""
    if not found.changes:
        return (Card("Bits lost", "0", note="no scale changed", tone="good"),)
    worst = found.changes[0]
    note = printable(f"at most, of {counted(len(found.changes), 'scale')}: {worst.site}")
    return (Card("Bits lost", words.bits_lost(worst.lost), note=note, tone="plain" if worst.lost <= 1 else "warn"),)


def _numbers(found: FixSummary) -> tuple[Card, ...]:
    """The agreement of the worst output with the unrepaired model."""
    if found.numbers is None:
        return ()
    numbers = found.numbers
    note = printable(f"{'worst output, ' if numbers.outputs > 1 else ''}{numbers.meaning}")
    return (Card("SQNR", numbers.value, note=note, tone="warn" if numbers.db is None else "plain"),)

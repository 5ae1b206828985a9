"""The pages of error and tune: what was measured of layers, kernels and candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...engines.execute.kinds import KINDS, LABEL
from ...engines.execute.numbers import EngineNumbers
from ...errors import counted
from ...printable import printable
from ...repair.options import Options
from ...rulekit.rule import Rule
from ...search.found import quality
from ...search.outcome import Outcome
from ...search.outcome import Point as Found
from ...verify.layers import Accuracy, LayerRow
from ..checked import Checked
from ..histograms import Values
from ..summary.words import decibels
from ..tune import level_text
from ..tuned import Tuned
from .data import Card, Cell, Column, Front, Page, Point, Table, Verdict
from .pages import checked_page
from .parts import Fact, Tone
from .repairs import fix_page
from .summary import PLACES, findings_card, share_card
from .words import finite, note

SUMMED = ("layer", "operator", "alone", "accumulated", "findings")
"""Columns of the table of layers that the summary shows."""
LOW = 20.0
"""An SQNR in dB below which a layer is marked: its noise has a tenth of the signal's amplitude."""


def error_page(
    path: Path, measured: Accuracy, checked: Checked, rules: Sequence[Rule], values: Mapping[str, Values]
) -> Page:
    """The error of each layer of a file against its float network, with the values of its sites."""
    facts = {row.layer: _facts(row) for row in measured.layers}
    page, found, here = checked_page("error", path, checked, rules, facts=facts, values=values)
    boxes = tuple(here.box(row.layer, row.node) for row in measured.layers)
    worst, layers = measured.layers[0], _layers(measured, boxes)
    where = f"{counted(len(measured.layers), 'layer')} on {counted(measured.samples, 'sample')} of {measured.data}"
    text = f"Worst layer alone: {worst.node}, {decibels(worst.alone.sqnr)}"
    return replace(
        page,
        verdict=Verdict("plain", printable(text), printable(where)),
        cards=(*_scores(measured), *_levels(measured), findings_card(found), share_card((checked.int8,))),
        dearest=_worst(layers),
        tables=(layers, *_skipped(measured.skipped)),
        notes=tuple(map(note, measured.notes)),
    )


def _facts(row: LayerRow) -> tuple[Fact, ...]:
    tone: Tone = "plain" if row.alone.sqnr >= LOW else "warn"
    clipped = [f"{i.clipped:.2%} of {printable(i.site)}" for i in row.inputs if i.clipped]
    return (
        Fact("SQNR alone", decibels(row.alone.sqnr), tone),
        Fact("SQNR accumulated", decibels(row.accumulated.sqnr)),
        Fact("cosine", f"{row.alone.cosine:.5f}"),
        Fact("largest error", f"{row.alone.largest:.4g}"),
        *((Fact("clipped", ", ".join(clipped)),) if clipped else ()),
    )


def _scores(measured: Accuracy) -> tuple[Card, ...]:
    if measured.scores is None:
        return ()
    both, tone = measured.scores, "bad" if measured.scores.difference < 0 else "plain"
    note = f"{both.difference:+.4g} against float"
    return (Card("Score", f"{both.quantized:.6g}", f"{both.unquantized:.6g}", note, tone),)  # type: ignore[arg-type]


def _levels(measured: Accuracy) -> tuple[Card, ...]:
    alone = sorted(row.alone.sqnr for row in measured.layers if not math.isnan(row.alone.sqnr))
    low = sum(level < LOW for level in alone)
    middle = decibels(alone[len(alone) // 2]) if alone else "unknown"
    return (
        Card("Median SQNR alone", middle, note=f"of {counted(len(alone), 'layer')}"),
        Card(f"Layers below {LOW:g} dB", f"{low}", note="alone", tone="warn" if low else "good"),
    )


def _layers(measured: Accuracy, boxes: tuple[int | None, ...]) -> Table:
    columns = (
        Column("layer", "name"),
        Column("operator"),
        Column("alone", "decibels", "SQNR if its inputs are those of the float network, rounded by its own pairs"),
        Column("accumulated", "decibels", "SQNR with the errors of all layers upstream"),
        Column("cosine", "number"),
        Column("largest error", "number"),
        Column("clipped", "share", "Largest share of values of an input beyond the range of its integers"),
        Column("bytes", "bytes"),
        Column("findings"),
    )
    rows: list[tuple[Cell, ...]] = []
    for row in measured.layers:
        levels = [_level(e.sqnr) for e in (row.alone, row.accumulated)]
        clipped = max((i.clipped for i in row.inputs if i.clipped is not None), default=None)
        errors = finite(round(row.alone.cosine, 5)), finite(row.alone.largest)
        rows.append((printable(row.node), row.op, *levels, *errors, clipped, row.bytes, " ".join(row.findings)))
    return Table("layers", "Errors of layers", columns, tuple(rows), boxes)


def _worst(layers: Table) -> Table:
    """The worst layers alone, for the summary."""
    places = tuple(i for i, column in enumerate(layers.columns) if column.label in SUMMED)
    rows = tuple(tuple(row[i] for i in places) for row in layers.rows[:PLACES])
    columns = tuple(layers.columns[i] for i in places)
    return Table("worst", "Worst layers", columns, rows, layers.boxes[:PLACES])


def _level(value: float) -> Cell:
    """An SQNR for a table: a number, or a word."""
    return round(value, 2) if math.isfinite(value) else decibels(value)


def _skipped(skipped: object) -> tuple[Table, ...]:
    items = dict(skipped).items() if skipped else ()  # type: ignore[call-overload]
    rows = tuple((printable(name), printable(reason)) for name, reason in items)
    columns = (Column("tensor", "name"), Column("reason"))
    return (Table("skipped", "Not compared", columns, rows),) if rows else ()


def engine_error_page(path: Path, measured: EngineNumbers, checked: Checked, rules: Sequence[Rule]) -> Page:
    """Where the numbers of an engine differ from ONNX Runtime's."""
    page, _, here = checked_page("error --as", path, checked, rules)
    columns = (
        Column("kernel", "name"),
        Column("kind"),
        Column("computes"),
        Column("stored"),
        Column("INT8 that differ, alone", "share"),
        Column("steps, alone", "count"),
        Column("alone", "decibels"),
        Column("INT8 that differ, accumulated", "share"),
        Column("steps, accumulated", "count"),
        Column("accumulated", "decibels"),
        Column("reasons"),
    )
    rows: list[tuple[Cell, ...]] = []
    for row in measured.kernels:
        both = [(d.differ, d.steps, _level(d.sqnr)) for d in (row.alone, row.accumulated)]
        names = (printable(row.kernel), printable(row.kind), row.precision, row.stored)
        rows.append((*names, *both[0], *both[1], " ".join(row.reasons)))
    boxes = tuple(here.box(row.kernel) for row in measured.kernels)
    differing = sum(bool(row.alone.largest or row.accumulated.largest) for row in measured.kernels)
    used = dict.fromkeys(name for row in measured.kernels for name in row.reasons)
    reasons = tuple((name, *map(printable, KINDS[name])) for name in used)
    text = f"{differing} of {counted(len(measured.kernels), 'kernel')} compute other values than ONNX Runtime"
    where = f"{LABEL}; {counted(measured.samples, 'sample')} of {measured.data}"
    tables = (
        Table("kernels", "Errors of kernels", columns, tuple(rows), boxes),
        *(
            (Table("reasons", "Reasons", (Column("reason"), Column("what"), Column("source")), reasons),)
            if used
            else ()
        ),
        *_skipped(measured.skipped),
    )
    return replace(
        page,
        verdict=Verdict("plain", text, printable(where)),
        cards=_engine_cards(measured),
        tables=tables,
        notes=tuple(map(note, measured.notes)),
    )


def _engine_cards(measured: EngineNumbers) -> tuple[Card, ...]:
    cards = []
    if measured.scores is not None:
        both = measured.scores
        note = f"{both.engine - both.runtime:+.4g} against ONNX Runtime"
        cards.append(Card("Score of the engine", f"{both.engine:.6g}", f"{both.runtime:.6g}", note))
    for name, found in list(measured.outputs.items())[:4]:
        value = "another shape" if found is None else decibels(found.sqnr)
        cards.append(Card("Output", value, note=printable(name)))
    return tuple(cards)


def tune_page(path: Path, output: Path | None, tuned: Tuned, rules: Sequence[Rule], options: Options) -> Page:
    """What a search found, and what it did to the file.

    Raises:
        ModelError, RuleError: as `fix_page`.
    """
    outcome = tuned.outcome
    base, chosen, floats = outcome.base.found, outcome.chosen.found, outcome.floats.found
    unit = "score" if chosen.searched.score is not None else "dB"
    speed = floats.ms / chosen.ms if chosen.ms else 1.0
    better: Tone = "good" if chosen.ms < base.ms else "plain"
    real, decisions = outcome.real[1], len(outcome.chosen.candidate.decisions)
    was = f"{base.ms:.4g} ms"
    faster, where = f"{speed:.2f} times as fast as float", "of the written model, on samples that did not choose it"
    cards = (
        Card("Estimated time", f"{chosen.ms:.4g} ms", was if was != f"{chosen.ms:.4g} ms" else "", faster, better),
        Card("Quality, held back", level_text(real, " dB"), note=where),
        Card("Bytes between kernels", f"{chosen.bytes:,}", f"{base.bytes:,}" if base.bytes != chosen.bytes else ""),
        Card("Decisions", f"{decisions}", note=f"{outcome.candidates} candidates measured"),
    )
    changed = outcome.chosen.candidate != outcome.base.candidate
    name = printable(f"Chosen: {outcome.chosen.name}") if changed else "Chosen: the repaired model as it is"
    written = printable(f"wrote {output}") if output is not None else "nothing was written"
    return replace(
        fix_page("tune", path, output, tuned.result, rules, options),
        verdict=Verdict("good", name, f"{outcome.budget.text}; {written}"),
        cards=cards,
        front=_front(outcome, unit),
        tables=(_points(outcome, unit), _decided(outcome)),
        notes=tuple(map(note, outcome.notes)),
    )


def _front(outcome: Outcome, unit: str) -> Front:
    points = [(p, "front") for p in outcome.front]
    points += [(outcome.base, "base"), (outcome.chosen, "chosen")]
    if unit == "score":
        points.append((outcome.floats, "float"))
    found = tuple(Point(printable(p.name), p.found.ms, p.found.quality, role) for p, role in points)  # type: ignore[arg-type]
    return Front(found, unit, outcome.device)


def _points(outcome: Outcome, unit: str) -> Table:
    columns = (
        Column("model"),
        Column("role"),
        Column("ms", "number", "Estimated; times rank, they do not predict"),
        Column(unit, "number"),
        Column(f"{unit} held back", "number"),
        Column("bytes", "bytes"),
        Column("decisions", "count"),
    )
    named = [(outcome.floats, "float"), (outcome.base, "repaired"), (outcome.chosen, "chosen")]
    named += [(point, "front") for point in outcome.front]
    return Table("front", "Candidates", columns, tuple(_row(point, role) for point, role in named))


def _row(point: Found, role: str) -> tuple[Cell, ...]:
    found = point.found
    held = None if found.held is None else round(quality(found.held), 4)
    levels = round(found.quality, 4), held
    return (printable(point.name), role, round(found.ms, 5), *levels, found.bytes, len(point.candidate.decisions))


def _decided(outcome: Outcome) -> Table:
    columns = (Column("subject", "name"), Column("option"))
    rows = tuple((printable(d.subject), printable(d.option)) for d in outcome.chosen.candidate.decisions)
    return Table("decisions", "Decisions of the chosen model", columns, rows)

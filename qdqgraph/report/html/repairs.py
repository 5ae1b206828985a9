"""The page of a repair: fix, quantize, tune, and two files side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...engines.compare.diff import diff
from ...errors import counted
from ...model.given import read
from ...printable import printable
from ...repair.options import Options
from ...repair.rounds import between
from ...repair.solution import Change
from ...rulekit.rule import Rule
from ..checked import Checked
from ..results import Result
from ..summary import checking, fixing
from ..summary.fixing import FixSummary
from .data import Column, Page, Table, Verdict
from .items import documented, repaired_items
from .kernels import two_engines
from .parts import Tone
from .scenes import Scene, known, scene, titled
from .summary import dearest, outcomes, repaired_cards
from .views import Drawn
from .words import finite, note

REFUSED = "TensorRT refuses the original file; its kernels are shown as if it accepted them"


def fix_page(
    command: str,
    path: Path,
    output: Path | None,
    result: Result,
    rules: Sequence[Rule],
    options: Options,
) -> Page:
    """What `fix`, `quantize` or `tune` did to a file.

    Args:
        command: its name.
        path: the file that was read.
        output: the file that was written; None if nothing was.
        result: what was done.
        rules: the rules that were run.
        options: the options of the repair.

    Raises:
        ModelError, RuleError: as `known`.
    """
    written = path if output is None else output
    before, found = known(result.start, path.parent, path.name, rules, options)
    after, _ = known(result.model, written.parent, written.name, rules, options)
    done = fixing.summary(str(path), output, None, result)
    where = f"wrote {output}" if output is not None else "dry run: nothing was written"
    return _page(command, path, output, result, (before, after), found, done, rules, _verdict(done, where))


def fixed_page(path: Path, fixed: Path, rules: Sequence[Rule], options: Options) -> Page:
    """A file and a repaired one, before and after.

    Raises:
        ModelError, RuleError: as `known`; or a file cannot be read.
    """
    sides = []
    for file in (path, fixed):
        model, folder, source = read(file, None)
        sides.append(known(model, folder, source.name, rules, options))
    (before, found), (after, remaining) = sides
    left = {finding.identity for finding in remaining.findings}
    gone = tuple(finding for finding in found.findings if finding.identity not in left)
    repair = between(before.graph, after.graph, rules, options, scanned=remaining.known.scanned)
    repair = replace(repair, applied=gone, found=found.findings, left=remaining.findings)
    result = Result.of(repair, int8=(found.int8, remaining.int8))
    done = fixing.summary(str(path), fixed, None, result)
    verdict = _verdict(done, f"{path} and {fixed}")
    return _page("report", path, fixed, result, (before, after), found, done, rules, verdict)


def _page(
    command: str,
    path: Path,
    output: Path | None,
    result: Result,
    drawn: tuple[Drawn, Drawn],
    found: Checked,
    done: FixSummary,
    rules: Sequence[Rule],
    verdict: Verdict,
) -> Page:
    before, after = drawn
    both = scene(titled(before, "before", result.values), titled(after, "after", result.values, result.changes))
    items = repaired_items(found.findings, result, both)
    earlier = checking.summary(str(path), found)
    engines = diff(before.engine, after.engine)
    refused = REFUSED if found.int8.refused else ""
    return Page(
        command=command,
        title=printable(path.name),
        files=tuple(printable(str(p)) for p in (path, output) if p is not None),
        target=both.target,
        codes=outcomes(items, earlier.codes, 0 if done.before.findings is None else len(items) - len(found.findings)),
        dearest=dearest(earlier.places, both.box),
        findings=items,
        rules=documented(rules, (each.code for each in items)),
        views=both.views,
        engines=two_engines(engines, refused, both.boxes),
        verdict=verdict,
        cards=repaired_cards(done),
        tables=tuple(filter(None, (_changes(done.changes, both), _floats(result)))),
        notes=tuple(map(note, dict.fromkeys((*after.engine.notes, *result.notes)))),
    )


def _verdict(found: FixSummary, where: str) -> Verdict:
    after = found.after.int8
    warning = "" if after is None else after.warning
    tone: Tone = "bad" if warning or found.after.errors else "warn" if found.remaining else "good"
    text = f"{found.count:,} repaired, {found.remaining:,} left"
    if found.before.findings is None and after is not None:
        left = counted(found.remaining, "finding")
        text = f"{after.int8:,} of {after.weighted:,} weighted layers quantized, {left} left"
    elif not found.count and not found.remaining:
        text = "Nothing to repair"
    return Verdict(tone, text, printable("; ".join(filter(None, (warning, found.legality, where)))))


def _changes(changes: Sequence[Change], both: Scene) -> Table | None:
    if not changes:
        return None
    measured = any(change.method for change in changes)
    columns = (
        Column("tensor", "name"),
        Column("own scale", "scale"),
        Column("new scale", "scale"),
        Column("bits lost", "number", "log2(new / own); negative if the new range clips"),
        *([Column("measured by")] if measured else []),
    )
    rows = tuple(
        (printable(c.site), finite(c.own), finite(c.new), finite(round(c.lost, 4)), *([c.method] if measured else []))
        for c in changes
    )
    return Table("scales", "Changed scales", columns, rows, tuple(both.box(c.site) for c in changes))


def _floats(result: Result) -> Table | None:
    if not result.floats:
        return None
    columns = (Column("layer", "name"), Column("operator"), Column("reason"))
    rows = tuple((printable(f.layer), printable(f.operator), printable(f.reason)) for f in result.floats)
    return Table("floats", "Layers in floating point", columns, rows)

"""Markdown, a section for each file: for a pull request, or the summary of a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...errors import counted
from ..markdown import code, listed, places, prose, table
from ..summary.checking import CheckSummary
from ..summary.outcomes import Outcome, judged
from ..summary.words import percent, size
from . import FileFindings

MOST_PLACES = 10
"""The tensors that are listed by cost."""
FEW = 3
"""The tensors that are named for a reason."""


def render(files: Sequence[FileFindings]) -> Iterator[str]:
    """The sections: the verdict, a table of the rules, the most expensive tensors, what stays, all findings folded."""
    for file in files:
        yield from (f"## {code(file.path)}", "")
        if file.error:
            yield from (f"**Not checked**: {prose(file.error)}", "")
        if file.summary is not None:
            yield from _summary(file.summary)
        if file.here:
            known = judged(file.here, None) if file.summary is None else file.summary.findings
            yield from listed([each.ended for each in known], counted(len(known), "finding"))
        for target, found in file.elsewhere.items():
            yield from ("", f"On {target} only: {counted(len(found), 'finding')}, at {places(found, FEW)}.")
        yield ""


def _summary(found: CheckSummary) -> Iterator[str]:
    yield from (f"**{prose(found.verdict)}**", "")
    if found.findings:
        yield from (prose(found.prospect) + (f": {code(found.command)}" if found.command else "."), "")
        heads = ("code", "rule", "findings!", "repairable!", "follow!", "stay!", "cost a run!", "share!")
        yield from table(heads, _rules(found))
        yield ""
    if costly := [place for place in found.places if place.bytes][:MOST_PLACES]:
        yield from ("Most expensive tensors:", "")
        rows = ((code(p.tensor), ", ".join(p.codes), size(p.bytes), percent(p.share)) for p in costly)
        yield from table(("tensor", "findings", "cost a run!", "share!"), rows)
        yield ""
    yield from (f"{prose(found.int8.sentence)}.", "")
    if found.after is not None and found.findings:
        yield from (f"After a repair: {prose(found.after.counts)}.", "")
    if found.kept and not found.unwritten:
        yield from ("A repair leaves:", "")
        for left in found.kept:
            many = counted(len(left.findings), "place")
            yield f"- {left.code} {left.name} at {many}, {places(left.findings, FEW)}: {prose(left.why)}"
        yield ""


def _rules(found: CheckSummary) -> Iterator[Sequence[str]]:
    for each in found.codes:
        numbers = (each.findings, each.repairable, each.follows, each.left)
        cost = (size(each.bytes), percent(each.share)) if each.bytes else ("", "")
        yield each.code, each.name, *(f"{number:,}" if number else "" for number in numbers), *cost
    remain = sum(each.outcome.remains for each in found.findings)
    whole = (len(found.findings), *map(found.count, (Outcome.REPAIRABLE, Outcome.FOLLOWS)), remain)
    share = percent(found.bytes / found.int8.bytes) if found.int8.bytes else ""
    yield "", "**all**", *(f"{number:,}" if number else "" for number in whole), size(found.bytes), share

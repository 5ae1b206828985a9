"""The screen of `check`: the verdict, a table of the rules, the most expensive places, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from rich.console import Console
from rich.text import Text

from ...errors import counted
from ..lines import finding_line, say, tabulate
from ..summary.checking import CheckSummary, CodeRow, Place
from ..summary.names import shortened
from ..summary.outcomes import RESOLVED, Judged, Outcome
from ..summary.words import percent, size
from .layout import clipped, colour, columns, longest, row, say_verdict, say_wrapped, table

PLACES = 10
"""How many of the most expensive places the screen shows."""
FEW = 4
"""With so many findings or fewer, each is shown with its message."""
REASONS = 3
"""How many reasons for what remains after a repair the screen shows."""
MARKS = {Outcome.REPAIRABLE: "", Outcome.FOLLOWS: "resolved", Outcome.PARTLY: "in part", Outcome.LEFT: "left"}


class Detail(Enum):
    """How much a screen shows."""

    QUIET = "quiet"
    """The verdict alone."""
    STATISTICS = "statistics"
    """The table of the rules alone."""
    NORMAL = "normal"
    VERBOSE = "verbose"
    """The places with their messages, and every reason."""
    FULL = "full"
    """Every finding, one line each, in place of the places."""


def show(console: Console, found: CheckSummary, detail: Detail) -> None:
    """Prints the summary of a file.

    Args:
        console: where to.
        found: the summary.
        detail: how much of it.
    """
    if detail is not Detail.STATISTICS:
        style = "bold red" if found.errors else "bold yellow" if found.findings or found.int8.warning else "bold green"
        say_verdict(console, f"{found.path}: {found.verdict}", style, alone=detail is Detail.QUIET)
    if detail is Detail.QUIET:
        return
    if found.findings:
        _rules(console, found)
    if detail is Detail.STATISTICS:
        return
    if detail is Detail.FULL:
        for judged in found.findings:
            say(console, finding_line(found.path, judged.ended))
    elif found.findings:
        _places(console, found, verbose=detail is Detail.VERBOSE)
    _elsewhere(console, found, verbose=detail in (Detail.VERBOSE, Detail.FULL))
    _layers(console, found, style="bold yellow" if found.int8.warning else "")
    _stays(console, found, verbose=detail in (Detail.VERBOSE, Detail.FULL))
    if found.command:
        say(console, Text(found.next_step, "bold"))  # one line, to be copied
    elif found.findings:
        say_wrapped(console, found.next_step, style="bold")


def _rules(console: Console, found: CheckSummary) -> None:
    follows = found.count(Outcome.FOLLOWS) > 0
    costs = any(each.bytes for each in found.codes)
    heads = ["code", "rule", "findings", *(["repairable", "resolved"] if follows else ["repairable"])]
    heads += ["cost/run", "share"] if costs else []
    rows = [_cells(each, follows=follows, costs=costs) for each in found.codes]
    taken = sum(longest(column) for column in zip(heads, *rows, strict=True)) - longest(["rule", *(r[1] for r in rows)])
    room = columns(console) - taken - 2 * len(heads)
    shown = table(*((head, "left" if place < 2 else "right") for place, head in enumerate(heads)))
    for each, (code, name, *numbers) in zip(found.codes, rows, strict=True):
        row(shown, Text(code, colour(each.severity)), clipped(name, room), *numbers)
    tabulate(console, shown, columns(console))


def _cells(of: CodeRow, *, follows: bool, costs: bool) -> tuple[str, ...]:
    """The cells of a row of the table of rules."""
    counts = [f"{of.findings:,}", f"{of.repairable:,}"]
    counts += [f"{of.follows:,}" if of.follows else ""] if follows else []
    counts += ([size(of.bytes), percent(of.share)] if of.bytes else ["", ""]) if costs else []
    return (of.code, of.name, *counts)


def _places(console: Console, found: CheckSummary, *, verbose: bool) -> None:
    """The places that cost most; with their messages if there are few, or all are wanted."""
    places = found.places[:PLACES]
    if verbose or _is_short(found):
        for place in places:
            for judged in place.findings:
                _message(console, judged)
    elif places := tuple(place for place in places if place.bytes):
        _short(console, places)
    if len(found.places) > len(places):
        say(console, Text(f" {counted(len(found.places) - len(places), 'more place')}: --full lists all", "dim"))


def _is_short(found: CheckSummary) -> bool:
    """Whether there are so few findings that the screen has room for all messages."""
    return len(found.findings) <= FEW


def _short(console: Console, places: Sequence[Place]) -> None:
    codes = [", ".join(place.codes) for place in places]
    marks = [_mark(place) for place in places]
    room = columns(console) - longest(codes) - longest(marks) - 2 * (10 + 2) - 2
    names = shortened((place.tensor for place in places), max(room, 20))
    shown = table(("most expensive places", "left"), ("cost/run", "right"), ("code", "left"), ("", "left"))
    for place, code, mark in zip(places, codes, marks, strict=True):
        row(shown, names[place.tensor], size(place.bytes), code, mark)
    tabulate(console, shown, columns(console))


def _mark(place: Place) -> str:
    """What becomes of the findings of a place, if they are not all repaired."""
    outcomes = {judged.outcome for judged in place.findings}
    return MARKS[outcomes.pop()] if len(outcomes) == 1 else ""


def _message(console: Console, judged: Judged) -> None:
    finding = judged.finding
    say_wrapped(console, f"{finding.place}: {finding.code} {finding.message}", " ", colour(finding.severity))
    outcome = {
        Outcome.REPAIRABLE: f"repair: {finding.help or 'automatic'}",
        Outcome.FOLLOWS: RESOLVED,
        Outcome.PARTLY: f"repaired in part; left: {judged.why}",
        Outcome.LEFT: f"left: {judged.why}",
    }[judged.outcome]
    loss = finding.loss if judged.outcome is Outcome.REPAIRABLE else ""
    say_wrapped(console, "; ".join(filter(None, (finding.price, outcome, loss))), "   ", "dim")


def _elsewhere(console: Console, found: CheckSummary, *, verbose: bool) -> None:
    for target, findings in found.elsewhere.items():
        first, *more = findings
        rest = f" and {len(more)} more: --target {target} lists them" if more else ""
        text = f"only on {target}: {first.place}: {first.code} {first.message}{rest}"
        say_wrapped(console, text if verbose else clipped(text, 2 * columns(console)), style="dim")


def _layers(console: Console, found: CheckSummary, style: str) -> None:
    """What runs in INT8, and after a repair if that changes it."""
    now, after = found.int8, found.after
    unknown = f" and {counted(now.unsized, 'tensor')} of unknown size" if now.unsized else ""
    text = f"{now.int8} of {now.weighted} weighted layers in {now.kind}, {size(now.bytes)} a run{unknown}"
    unless = ", as if TensorRT accepted this file" if now.refused else ""
    if after is not None and (after.int8, after.bytes) != (now.int8, now.bytes) and not found.unwritten:
        text += f"; after the repair {after.int8} of {after.weighted}, {size(after.bytes)}"
    say_wrapped(console, f"{text} ({now.source}{unless})", style=style)


def _stays(console: Console, found: CheckSummary, *, verbose: bool) -> None:
    """Why findings remain after a repair, those that only its repairs bring to light included."""
    said = {each.finding.identity for each in found.findings} if _is_short(found) else set()
    kept = [left for left in found.kept if any(finding.identity not in said for finding in left.findings)]
    shown = kept if verbose else kept[:REASONS]
    for left in shown:
        text = f"left: {left.code} at {counted(len(left.findings), 'place')}: {left.why}"
        say_wrapped(console, text if verbose else clipped(text, 2 * columns(console) - 2), style="dim")
    if len(kept) > len(shown):
        say(console, Text(f"left: {counted(len(kept) - len(shown), 'more reason')}: -v lists all", "dim"))

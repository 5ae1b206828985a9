"""The screen of `fix` and `quantize`: what was repaired, what is left and why, the model before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...errors import counted
from ...repair.seed import CODE
from ...repair.solution import Change
from ...rulekit.finding import Finding
from ...verify.verification import Verification
from ..lines import colored_line, say, tabulate
from ..summary.fixing import FixSummary
from ..summary.names import shortened
from ..summary.outcomes import Left
from ..summary.sides import Row
from ..summary.words import bits_lost, decibels
from .layout import clipped, colour, columns, longest, row, say_verdict, say_wrapped, table

if TYPE_CHECKING:
    from ..results import Result

PLACES = 3
"""How many places of a rule the screen names."""
LEFT = 5
"""How many kinds of reasons for what is left the screen shows."""
NAME, LEAST = 24, 12
"""How many characters of a place are enough, and the least, where there is not room for its whole name."""
SCALES = 20
"""Number of rows in the table of changed scales; --json has all."""


class Detail(Enum):
    """How much a screen shows."""

    QUIET = "quiet"
    """What was written."""
    NORMAL = "normal"
    VERBOSE = "verbose"
    """Every repair and every remaining finding, the changed scales, every output."""


def show(console: Console, found: FixSummary, result: Result, detail: Detail) -> None:
    """Prints what was repaired, what is left, and the table before and after.

    Args:
        console: where to.
        found: the summary of the repair.
        result: the repair.
        detail: how much of it.
    """
    verbose = detail is Detail.VERBOSE
    share = found.after.int8
    style = "bold yellow" if found.remaining or (share is not None and share.warning) else "bold green"
    say_verdict(console, f"{found.path}: {found.verdict}", style)
    if found.repaired:
        say(console, Text(f"Repaired ({found.count:,})", "bold"))
        if verbose:
            for finding in (each for each in result.applied if each.code != CODE):
                say(console, colored_line(found.path, finding, "bold green", finding.advice))
        else:
            _groups(console, [(each.code, each.name, each.findings, "bold green") for each in found.repaired])
    if found.left:
        say(console, Text(f"Left ({found.remaining:,})", "bold"))
        _left(console, found.left, verbose=verbose)
    if verbose and found.changes:
        tabulate(console, _scales(console, found.changes), columns(console))
    _before_and_after(console, found.rows)
    for remark in found.remarks:
        say_wrapped(console, remark, " ", "dim")
    if verbose and result.numbers is not None:
        for name, text in _outputs(result.numbers):
            say_wrapped(console, f"{name}: {text}", " ")


def show_written(console: Console, found: FixSummary, *, dry: bool) -> None:
    """Prints which files were written."""
    if found.written is not None:
        say(console, Text(f"Wrote {found.written}", "bold"))
    if found.plan is not None:
        say(console, f"Plan: {found.plan}")
    if dry:
        say(console, "dry run: nothing written")


def _groups(console: Console, groups: Sequence[tuple[str, str, tuple[Finding, ...], str]]) -> None:
    """A row for each rule: how many findings, and the first of their places."""
    words = [(code, name, f"{len(findings):,}") for code, name, findings, _ in groups]
    room = columns(console) - sum(longest(column) for column in zip(*words, strict=True)) - 9
    shown = table(("", "left"), ("", "left"), ("", "right"), ("", "left"))
    for code, name, findings, style in groups:
        row(shown, Text(code, style), name, f"{len(findings):,}", _some([each.place for each in findings], room))
    tabulate(console, shown, columns(console))


def _some(places: Sequence[str], room: int) -> str:
    """As many of the first places as fit in `room`, `PLACES` at most, and how many more there are."""
    text = ""
    for count in range(1, min(len(places), PLACES) + 1):
        more = f" and {len(places) - count:,} more" if len(places) > count else ""
        each = (room - len(more) - 2 * (count - 1)) // count
        if text and each < NAME and any(len(place) > each for place in places[:count]):
            break
        forms = shortened(places[:count], max(each, LEAST))
        text = ", ".join(forms.values()) + more
    return text


def _left(console: Console, groups: Sequence[Left], *, verbose: bool) -> None:
    shown = groups if verbose else groups[:LEFT]
    _groups(console, [(each.code, each.name, each.findings, colour(each.severity)) for each in shown])
    for each in shown:
        if verbose:
            for finding in each.findings:
                why = finding.refused or each.why
                say_wrapped(console, f"{finding.place}: {finding.code} {finding.message}; {why}", "   ", "dim")
        else:
            text = f"{each.code}: {each.why}"
            say_wrapped(console, clipped(text, 2 * columns(console) - 8), "   ", "dim")
    if len(groups) > len(shown):
        rest = sum(len(each.findings) for each in groups[len(shown) :])
        say(console, Text(f"   {counted(rest, 'finding')} for other reasons: -v lists all", "dim"))


def _before_and_after(console: Console, rows: Sequence[Row]) -> None:
    shown = table(("", "left"), ("before", "right"), ("after", "right"), ("", "left"))
    room = columns(console) - sum(longest(getattr(each, at) for each in rows) for at in ("name", "before", "after")) - 9
    for each in rows:
        names = [word for word in each.note.split() if len(word) > room]
        note = each.note
        for name, form in shortened(names, max(room, 12)).items():
            note = note.replace(name, form)
        row(shown, each.name, each.before, each.after, Text(note, "dim"))
    tabulate(console, shown, columns(console))


def _scales(console: Console, changes: Sequence[Change]) -> Table:
    measured = any(change.method for change in changes)
    heads = ["Scales changed", "own scale", "new scale", "bits lost", *(["measured by"] if measured else [])]
    shown = table(*((head, "right" if place else "left") for place, head in enumerate(heads)))
    names = shortened((change.site for change in changes[:SCALES]), max(columns(console) - 50, 24))
    for change in changes[:SCALES]:
        method = (change.method,) if measured else ()
        row(shown, names[change.site], f"{change.own:.6g}", f"{change.new:.6g}", bits_lost(change.lost), *method)
    if len(changes) > SCALES:
        row(shown, f"{len(changes) - SCALES} more, all with --json", *[""] * (len(heads) - 1))
    return shown


def _outputs(check: Verification) -> Iterable[tuple[str, str]]:
    """Each output with its agreement."""
    for name, agreement in check.outputs.items():
        value = "bit-identical" if agreement.identical else f"SQNR {decibels(agreement.sqnr)}"
        yield f"output {name}", f"{value}; {agreement.caveat}" if agreement.caveat else value

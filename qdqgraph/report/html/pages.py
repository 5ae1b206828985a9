"""The pages of check and engine diff."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ... import __version__
from ...engines.compare.diff import Diff
from ...engines.compare.match import KernelGroup
from ...engines.share import Int8Share
from ...errors import counted
from ...printable import printable
from ...rulekit.rule import Rule
from ...targets.target import DEFAULT
from ..checked import Checked
from ..summary import checking
from ..summary.checking import CheckSummary
from ..summary.outcomes import Outcome
from .data import Card, Cell, Column, Page, Table, Verdict
from .items import documented, judged_items
from .kernels import two_engines
from .parts import Tone
from .scenes import drawn_of, scene
from .summary import by_code, checked_cards, dearest, share_cards
from .words import note


def check_page(path: Path, checked: Checked, rules: Sequence[Rule], target: str = DEFAULT, command: str = "") -> Page:
    """What `check` finds in a file.

    Args:
        path: the file, as the user wrote it.
        checked: what `api.check` returned.
        rules: the rules that were run.
        target: the name of the requested target.
        command: the command that repairs the file; by default `fix` without options.
    """
    found = checking.summary(str(path), target, checked)
    here = scene(drawn_of(checked.known))
    return Page(
        command="check",
        title=printable(path.name),
        files=(printable(str(path)),),
        target=here.target,
        version=__version__,
        verdict=_checked(found, command or shlex.join(("qdqgraph", "fix", str(path), "-o", "fixed.onnx"))),
        cards=checked_cards(found),
        codes=by_code(found.codes),
        dearest=dearest(found.places, here.box),
        findings=judged_items(found.findings, here.drawn, here.numbers),
        rules=documented(rules, (each.finding.code for each in found.findings)),
        views=here.views,
        engines=here.engines,
        notes=(*_elsewhere(found), *map(note, checked.engine.notes)),
    )


def _checked(found: CheckSummary, command: str) -> Verdict:
    tone: Tone = "bad" if found.errors or found.int8.warning else "warn" if found.findings else "good"
    repairable = found.count(Outcome.REPAIRABLE) and not found.unwritten
    follows, left = found.count(Outcome.FOLLOWS), found.count(Outcome.LEFT)
    parts = [f"{found.count(Outcome.REPAIRABLE):,} repairable"]
    parts += [f"{follows:,} resolved with them"] if follows else []
    parts += [f"{left:,} left"] if left else []
    parts += [f"fix would write nothing: {found.unwritten}"] if found.unwritten else []
    detail = ", ".join(parts) if found.findings else found.int8.counts
    return Verdict(tone, _capital(found.verdict), printable(detail), printable(command) if repairable else "")


def _capital(text: str) -> str:
    return printable(text[:1].upper() + text[1:])


def _elsewhere(found: CheckSummary) -> Iterator[str]:
    """What other targets would find."""
    for name, findings in found.elsewhere.items():
        codes = ", ".join(dict.fromkeys(finding.code for finding in findings))
        yield printable(f"for {name}: {counted(len(findings), 'more finding')} ({codes})")


def diff_page(files: Sequence[Path], found: Diff) -> Page:
    """The differences of two engines."""
    sign, reason = found.verdict
    tone: Tone = "bad" if sign > 0 else "good" if sign < 0 else "plain"
    word = {1: "is worse", -1: "is better", 0: "is not worse"}[sign]
    cards: list[Card] = []
    times = [totals.time_ms for totals in found.totals]
    if times[0] is not None and times[1] is not None:
        faster: Tone = "good" if times[1] < times[0] else "bad" if times[1] > times[0] else "plain"
        cards.append(Card("Time", f"{times[1]:.3f} ms", f"{times[0]:.3f} ms", "sum of layer times", faster))
    known = found.shares or tuple(Int8Share.of(engine) for engine in (found.a, found.b))
    cards += share_cards(known)[0 if found.shares else 1 :]
    detail = printable(reason) if found.comparable else "their tensors have other sizes: bytes and times do not compare"
    return Page(
        command="engine diff",
        title=printable(f"{found.a.name} → {found.b.name}"),
        files=tuple(printable(str(file)) for file in files),
        target="",
        version=__version__,
        verdict=Verdict(tone, printable(f"{found.b.name} {word}"), detail),
        cards=tuple(cards),
        tables=(_differences(found),),
        engines=two_engines(found, reason),
        notes=tuple(map(note, dict.fromkeys((*found.a.notes, *found.b.notes)))),
    )


def _differences(found: Diff) -> Table:
    columns = (
        Column("difference"),
        Column("kernels", "count"),
        Column("bytes in A", "bytes"),
        Column("bytes in B", "bytes"),
    )
    groups = (
        ("fused differently", found.fused_differently),
        ("other types", found.precision_changed),
        ("other layouts", found.layout_changed),
        ("reformats that convert something else", found.reformats_changed),
        ("reformats gone", (KernelGroup(found.reformats_removed, ()),)),
        ("reformats new", (KernelGroup((), found.reformats_added),)),
        ("only in A", (KernelGroup(found.only_a, ()),)),
        ("only in B", (KernelGroup((), found.only_b),)),
    )
    return Table("differences", "Differences", columns, tuple(_difference(name, them) for name, them in groups))


def _difference(name: str, groups: Sequence[KernelGroup]) -> tuple[Cell, ...]:
    """A row: the kernels of the side that has more of them, and the bytes of each side."""
    a = [layer for group in groups for layer in group.a]
    b = [layer for group in groups for layer in group.b]
    return name, max(len(a), len(b)), sum(layer.bytes for layer in a), sum(layer.bytes for layer in b)

"""The pages of check and engine diff, and what the pages of one checked file have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...engines.compare.diff import Diff
from ...engines.compare.match import KernelGroup
from ...engines.share import Int8Share
from ...errors import counted
from ...graph.graph import Graph
from ...printable import printable
from ...rulekit.rule import Rule
from ..checked import Checked
from ..histograms import Values
from ..summary import checking
from ..summary.checking import CheckSummary
from ..summary.words import compared
from .data import Card, Cell, Column, Page, Table, Verdict
from .items import documented, judged_items
from .kernels import no_boxes, two_engines
from .parts import Fact, Tone
from .scenes import Scene, drawn_of, scene
from .summary import by_code, checked_cards, dearest, share_card, traffic_cards
from .views import Drawn
from .words import note, sentence


def checked_page(
    command: str,
    path: Path,
    checked: Checked,
    rules: Sequence[Rule],
    *,
    fix: str = "",
    facts: Mapping[str, tuple[Fact, ...]] | None = None,
    values: Mapping[str, Values] | None = None,
) -> tuple[Page, CheckSummary, Scene]:
    """The page of a checked file with the verdict of `check`, its summary, and its graph.

    Args:
        command: the command that writes the page.
        path: the file, as the user wrote it.
        checked: what `api.check` returned.
        rules: the rules that were run.
        fix: the command that repairs the file; by default `fix` without options.
        facts: what was measured, by the output tensor of a layer.
        values: what data show of the sites, by name.
    """
    found = checking.summary(str(path), checked, fix)
    here = scene(drawn_of(checked.known, facts, values))
    page = Page(
        command=command,
        title=printable(path.name),
        files=(printable(str(path)),),
        target=here.target,
        verdict=_checked(found),
        codes=by_code(found.codes),
        findings=judged_items(found.findings, here),
        rules=documented(rules, (each.finding.code for each in found.findings)),
        views=here.views,
        engines=here.engines,
    )
    return page, found, here


def check_page(path: Path, checked: Checked, rules: Sequence[Rule], fix: str = "") -> Page:
    """What `check` finds in a file; arguments as `checked_page`."""
    page, found, here = checked_page("check", path, checked, rules, fix=fix)
    return replace(
        page,
        cards=checked_cards(found),
        dearest=dearest(found.places, here.box),
        notes=(*_elsewhere(found), *map(note, checked.engine.notes)),
    )


def _checked(found: CheckSummary) -> Verdict:
    tone: Tone = "bad" if found.errors or found.int8.warning else "warn" if found.findings else "good"
    detail = found.prospect if found.findings else found.int8.counts
    return Verdict(tone, sentence(found.verdict), printable(detail), printable(found.command))


def _elsewhere(found: CheckSummary) -> Iterator[str]:
    """What other targets would find."""
    for name, findings in found.elsewhere.items():
        codes = ", ".join(dict.fromkeys(finding.code for finding in findings))
        yield printable(f"for {name}: {counted(len(findings), 'more finding')} ({codes})")


def diff_page(files: Sequence[Path], found: Diff, graphs: Sequence[Graph | None] = ()) -> Page:
    """The differences of two engines; with the graphs, if both are forecasts of these."""
    here = scene(
        *(
            Drawn(title, graph, engine)
            for title, graph, engine in zip("AB", graphs, (found.a, found.b), strict=False)
            if graph is not None
        )
    )
    both = len(here.drawn) == 2
    sign, reason = found.verdict
    tone: Tone = "bad" if sign > 0 else "good" if sign < 0 else "plain"
    cards = [] if found.shares is None else [share_card(found.shares)]
    times = [totals.time_ms for totals in found.totals]
    if times[0] is not None and times[1] is not None:
        faster: Tone = "good" if times[1] < times[0] else "bad" if times[1] > times[0] else "plain"
        cards.append(Card("Time", f"{times[1]:.3f} ms", f"{times[0]:.3f} ms", "sum of layer times", faster))
    detail = printable(reason) if found.comparable else "their tensors have other sizes: bytes and times do not compare"
    return Page(
        command="engine diff",
        title=printable(f"{found.a.name} → {found.b.name}"),
        files=tuple(printable(str(file)) for file in files),
        target="",
        verdict=Verdict(tone, printable(compared(found)), detail),
        cards=(*cards, *traffic_cards([Int8Share.of(engine) for engine in (found.a, found.b)])),
        tables=(_differences(found),),
        views=here.views if both else (),
        engines=two_engines(found, reason, here.boxes if both else (no_boxes, no_boxes)),
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
        ("reformats removed", (KernelGroup(found.reformats_removed, ()),)),
        ("reformats added", (KernelGroup((), found.reformats_added),)),
        ("only in A", (KernelGroup(found.only_a, ()),)),
        ("only in B", (KernelGroup((), found.only_b),)),
    )
    return Table("differences", "Differences", columns, tuple(_difference(name, them) for name, them in groups))


def _difference(name: str, groups: Sequence[KernelGroup]) -> tuple[Cell, ...]:
    """A row: the kernels of the side that has more of them, and the bytes of each side."""
    a = [layer for group in groups for layer in group.a]
    b = [layer for group in groups for layer in group.b]
    return name, max(len(a), len(b)), sum(layer.bytes for layer in a), sum(layer.bytes for layer in b)

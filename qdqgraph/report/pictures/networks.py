"""The picture of a Q/DQ graph: its layers as the report folds them, or all its nodes, with groups and findings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import counted
from ...model.files import read_model
from ...operators import PAIRS
from ...repair.options import Options
from ...rulekit.finding import Finding
from ...rulekit.rule import Rule
from ..html import parts
from ..html.scenes import known
from ..html.views import Drawn, view
from .sheet import END, OTHER, PAIR, PRECISIONS, Card, Sheet, Wire

CODES = 3
"""Finding codes that a card names; the tooltip has all."""
SHORT = {"QuantizeLinear": "Q", "DequantizeLinear": "DQ"}


def of_model(model: Path, rules: Sequence[Rule], options: Options, *, unfolded: bool = False) -> Sheet:
    """The Q/DQ graph of a file with the groups of its ties and its findings; a float network has no findings.

    Args:
        model: the file.
        rules: the rules that are run.
        options: the target and the policy.
        unfolded: whether each node has its own card.

    Raises:
        ModelError: the file cannot be read or imported.
        RuleError: a rule crashed.
    """
    drawn, checked = known(read_model(model), model.parent, model.name, rules, options)
    share = checked.int8
    totals = (
        f"{share.counts}; {counted(len(checked.findings), 'finding')}",
        f"{counted(share.kernels, 'kernel')}, {counted(share.reformats, 'reformat')} ({share.source})",
    )
    return of_graph(replace(drawn, whole=unfolded), checked.findings, model.name, totals)


def of_graph(drawn: Drawn, findings: Iterable[Finding], title: str, totals: tuple[str, ...] = ()) -> Sheet:
    """A graph with its findings at their places; the codes of those without a place follow `totals`."""
    shown = view(drawn, {box.key: index for index, box in enumerate(drawn.folding.boxes)})
    at: dict[int | None, list[Finding]] = defaultdict(list)
    for finding in findings:
        at[drawn.box_at(finding.place, finding.node)].append(finding)
    elsewhere = [f"not in the picture: {', '.join(_codes(at[None]))}"] if at[None] else []
    groups: dict[int, list[int]] = defaultdict(list)
    for number, boxes in enumerate(shown.groups, start=1):
        for index in boxes:
            groups[index].append(number)
    converted = _converted(drawn, shown)
    most = max((box.bytes for box in shown.boxes), default=0)
    cards = tuple(
        _card(box, at[box.id], sorted({*groups[box.id], *(g + 1 for g in box.groups)}), converted[box.id], most)
        for box in shown.boxes
    )
    bar = f"bytes of the kernel, longest {most:,} bytes" if most else ""
    return Sheet(title, (*totals, *elsewhere), cards, _wires(shown.edges), bar)


def _converted(drawn: Drawn, shown: parts.View) -> Mapping[int, list[int]]:
    """The bytes of the reformats at each box: of what it reads; of its own result where no reader is known."""
    sizes = [layer.bytes for layer in drawn.engine.working]
    found: dict[int, list[int]] = defaultdict(list)
    seen: set[int] = set()
    for edge in shown.edges:
        found[edge.target] += [sizes[n] for n in edge.reformats if n not in seen]
        seen.update(edge.reformats)
    for box in shown.boxes:
        found[box.id] += [sizes[n] for n in box.reformats if n not in seen]
        seen.update(box.reformats)
    return found


def _card(
    box: parts.Box, findings: Sequence[Finding], groups: Sequence[int], converted: Sequence[int], most: int
) -> Card:
    pair = box.op in PAIRS
    fill, meaning = _fill(box, pair=pair)
    detail = box.nodes[0].detail if pair else ""
    words = " · ".join((SHORT.get(box.op, box.op), *box.also))
    facts = [detail, " · ".join(part for part in (box.shape, f"{box.bytes:,} bytes" if box.bytes else "") if part)]
    return Card(
        title=box.title,
        words=" ".join(part for part in (box.precision, words) if part),
        facts=tuple(fact for fact in facts if fact),
        alarms=(*_codes(findings), *_reformats(converted)),
        groups=tuple(groups),
        fill=fill,
        meaning=meaning,
        loud=bool(findings),
        share=box.bytes / most if most else 0.0,
        tip="\n".join(_tip(box, findings)),
    )


def _fill(box: parts.Box, *, pair: bool) -> tuple[str, str]:
    """The colour of a card and its meaning."""
    if box.end:
        return END, ""
    if pair:
        return PAIR, "Q, DQ"
    if not box.precision:
        return OTHER, "no kernel of its own"
    return PRECISIONS.get(box.precision, OTHER), box.precision if box.precision in PRECISIONS else "other precision"


def _codes(findings: Iterable[Finding]) -> Iterable[str]:
    counts = Counter(finding.code for finding in findings)
    parts = [code if count == 1 else f"{count} × {code}" for code, count in sorted(counts.items())]
    more = [f"{len(parts) - CODES} more"] if len(parts) > CODES else []
    return [", ".join([*parts[:CODES], *more])] if parts else []


def _reformats(converted: Sequence[int]) -> Iterable[str]:
    return [f"{counted(len(converted), 'reformat')}, {sum(converted):,} bytes"] if converted else []


def _tip(box: parts.Box, findings: Iterable[Finding]) -> Iterable[str]:
    """The full name, the nodes, the scales and the findings of a box."""
    yield box.name
    if len(box.nodes) > 1:
        yield ", ".join(f"{node.op} {node.name}" for node in box.nodes)
    for pair in box.pairs:
        scale = (
            f"scale {pair.scale:.7g}" if pair.scale is not None else f"{pair.scales[0]} scales" if pair.scales else ""
        )
        group = "" if pair.group is None else f"group {pair.group + 1}"
        yield f"{pair.tensor}: {', '.join(part for part in (pair.kind, pair.integers, scale, group) if part)}"
    for finding in findings:
        yield f"{finding.code} {finding.message}"


def _wires(edges: Iterable[parts.Edge]) -> tuple[Wire, ...]:
    """One wire for all tensors from one box to another."""
    between: dict[tuple[int, int], list[parts.Edge]] = defaultdict(list)
    for edge in edges:
        between[edge.source, edge.target].append(edge)
    return tuple(
        Wire(
            source,
            target,
            reformat=any(edge.reformats for edge in them),
            fused=all(edge.fused for edge in them),
            tip="\n".join(
                " ".join(part for part in (edge.precision, edge.tensor, edge.shape) if part) for edge in them
            ),
        )
        for (source, target), them in between.items()
    )

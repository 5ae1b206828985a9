"""Sheets as one graph for Graphviz, each in its own cluster, with their legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...printable import printable
from .sheet import ALARM, BORDER, END, GROUPS, LOUD, Card, Key, Sheet, legend
from .text import Lines


def dot(sheets: Sequence[Sheet]) -> str:
    """The cards and wires of sheets; Graphviz chooses their places."""
    lines = ["digraph {", '  node [shape=box, style="filled,rounded", fontname="sans-serif", fontsize=11];']
    for number, sheet in enumerate(sheets):
        lines += [
            f"  subgraph cluster_{number} {{",
            f"    label={_quoted(chr(10).join((sheet.title, *sheet.totals)))};",
        ]
        names = Lines(sheet.cards).names
        lines += [f"    n{number}_{i} [{_card(card, names[i])}];" for i, card in enumerate(sheet.cards)]
        for wire in sheet.wires:
            look = f'penwidth={max(3.0, wire.thick):g}, color="{ALARM}", label="reformat"' if wire.reformat else ""
            look = look or f"penwidth={wire.thick:g}" + (", style=dashed" if wire.fused else "")
            ends = f"n{number}_{wire.source} -> n{number}_{wire.target}"
            lines.append(f"    {ends} [{look}, tooltip={_quoted(wire.tip)}];")
        lines.append("  }")
    return "\n".join([*lines, *_legend(legend(tuple(sheets))), "}"]) + "\n"


def _card(card: Card, name: str) -> str:
    groups = f"group {', '.join(map(str, card.groups))}" if card.groups else ""
    text = "\n".join(part for part in (name, card.words, groups, *card.facts, *card.alarms) if part)
    border = ALARM if card.loud else GROUPS[(card.groups[0] - 1) % len(GROUPS)] if card.groups else BORDER
    weight = 3 if card.loud or card.groups else 1
    colours = f'fillcolor="{card.fill}", color="{border}", penwidth={weight}'
    return f"label={_quoted(text)}, tooltip={_quoted(card.tip)}, {colours}"


def _legend(keys: Sequence[Key]) -> Iterator[str]:
    """The meaning of the colours, as nodes. Colours of wires are named in words."""
    if not keys:
        return
    yield from ("  subgraph cluster_legend {", '    label="legend";')
    for index, key in enumerate(key for key in keys if not key.bar):
        named = f"{_wire(key)}: {key.text}" if key.line and not key.fill else key.text
        loud = bool(key.fill) and (bool(key.line) or key.fill == LOUD)
        border = ALARM if loud else key.fill if key.group else BORDER
        colours = f'fillcolor="{END if key.group else key.fill or END}", color="{border}"'
        yield f"    legend_{index} [label={_quoted(named)}, {colours}, penwidth={3 if loud or key.group else 1}];"
    yield "  }"


def _wire(key: Key) -> str:
    return "red line" if key.line == ALARM else "dashed line" if key.dashed else "line"


def _quoted(text: str) -> str:
    escaped = printable(text, keep="\n").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'

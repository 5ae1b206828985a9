"""Diagrams of small graphs: SVG for pages, lines of text for a terminal. Equal scales have the same colour.

Constants, and tensors computed from constants only, are omitted. `pictures` draws whole networks and engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape

from ..graph.graph import Graph, Node, key
from ..graph.pair import pairs
from ..operators import MOVES_WEIGHTS, PAIRS, SAME_CONSTANT
from ..printable import printable

STORED = MOVES_WEIGHTS | SAME_CONSTANT | PAIRS | {"Constant"}
"""Operators on constants that are left out, as TensorRT stores their results."""
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 96, 30, 16, 26, 16
"""Pixels: a box, the gaps between boxes and layers, the margin."""
COLOURS = ("#8dd3c7", "#fdb462", "#80b1d3", "#fb8072", "#bebada", "#b3de69", "#fccde5", "#ffed6f")
PLAIN = "#f4f4f4"


@dataclass(frozen=True)
class Box:
    """One node, input or output of a diagram.

    Attributes:
        name: the tensor that it produces.
        text: its title.
        scale: the scale of a Q or DQ, as text; "" for anything else.
        sources: the names of the boxes that it reads.
        end: whether it is an input or output of the graph, not a node.
    """

    name: str
    text: str
    scale: str
    sources: tuple[str, ...]
    end: bool = False


@dataclass(frozen=True)
class Drawing:
    """The boxes of a graph, sources first."""

    boxes: tuple[Box, ...]

    @classmethod
    def of(cls, graph: Graph) -> Drawing:
        """The diagram of a graph."""
        boxes = [Box(t.name, t.name, "", (), end=True) for t in graph.gs.inputs]
        maker: dict[str, str] = {b.name: b.name for b in boxes}
        stored = set(graph.initializers)
        for node in graph.nodes():
            if (
                node.op in STORED
                and graph.is_constant(key(node))
                and all(t.name in stored for t in node.inputs if t.name)
            ):
                stored.update(t.name for t in node.outputs)
                continue
            sources = tuple(dict.fromkeys(maker[t.name] for t in node.inputs if t.name in maker))
            boxes.append(Box(key(node), *_words(graph, node), sources))
            maker.update((t.name, key(node)) for t in node.outputs if t.name)
        boxes += [
            Box(f"{t.name} ", t.name, "", (maker[source],), end=True)
            for t in graph.gs.outputs
            if (source := graph.source(t.name)) in maker
        ]
        return cls(tuple(boxes))

    @cached_property
    def readers(self) -> Mapping[str, tuple[Box, ...]]:
        """For each box, the boxes that read it."""
        return {b.name: tuple(r for r in self.boxes if b.name in r.sources) for b in self.boxes}

    @cached_property
    def layers(self) -> tuple[tuple[Box, ...], ...]:
        """The boxes by their longest path from an input; within a layer near the boxes that they read.

        An edge that skips layers has an empty box in each, so that it passes between the boxes there.
        """
        depth: dict[str, int] = {}
        for box in self.boxes:
            depth[box.name] = 1 + max((depth[s] for s in box.sources), default=-1)
        rows: list[list[Box]] = [[] for _ in range(1 + max(depth.values(), default=0))]
        for box in self.boxes:
            sources = []
            for source in box.sources:
                for level in range(depth[source] + 1, depth[box.name]):
                    bend = Box(f"{source} → {box.name} {level}", "", "", (source,))
                    rows[level].append(bend)
                    source = bend.name
                sources.append(source)
            rows[depth[box.name]].append(replace(box, sources=tuple(sources)))
        place: dict[str, float] = {}
        for row in rows:
            middle = {b.name: sum(place[s] for s in b.sources) / max(1, len(b.sources)) for b in row}
            row.sort(key=lambda b: (middle[b.name], not b.text))
            for index, box in enumerate(row):
                place[box.name] = index - (len(row) - 1) / 2
        return tuple(map(tuple, rows))


def _words(graph: Graph, node: Node) -> tuple[str, str]:
    """The title of a node's box, and its scale if it is a Q or DQ."""
    if node.op not in ("QuantizeLinear", "DequantizeLinear"):
        return str(node.op), ""
    pair = pairs(graph).of(node)
    short = "Q" if node.op == "QuantizeLinear" else "DQ"
    if pair is None or pair.scale is None:
        return f"{short} ?", "?"
    scale = f"{pair.value:.4g}" if pair.per_tensor else f"{pair.scale.size} scales"
    return f"{short} {scale}", scale


def lines(drawing: Drawing) -> list[str]:
    """The diagram as chains: the inputs of each, its nodes in a row, its last tensor."""
    single = {b.name: r[0] for b in drawing.boxes if len(r := drawing.readers[b.name]) == 1 and len(r[0].sources) == 1}
    inside = {r.name for name, r in single.items() if not _by_name(drawing, name).end}
    found: list[str] = []
    for box in drawing.boxes:
        if box.name in inside or (box.end and not box.sources):
            continue
        chain = [box]
        while chain[-1].name in single:
            chain.append(single[chain[-1].name])
        last = chain[-1].name.strip()
        steps = " ─ ".join(b.text for b in chain if not b.end)
        if steps:
            found.append(f"{', '.join(s.strip() for s in box.sources)} ─ {steps} ─▶ {last}")
    return found


def _by_name(drawing: Drawing, name: str) -> Box:
    return next(b for b in drawing.boxes if b.name == name)


def svg(parts: Sequence[tuple[str, Drawing]]) -> str:
    """Diagrams side by side, each under its title; equal scales have the same colour in all of them."""
    scales = sorted({b.scale for _, d in parts for b in d.boxes if b.scale}, key=lambda s: (len(s), s))
    colours = {scale: COLOURS[i % len(COLOURS)] for i, scale in enumerate(scales)}
    bodies: list[str] = []
    left = bottom = 0
    for title, drawing in parts:
        body, wide, high = _part(title, drawing, left, colours)
        bodies += body
        left, bottom = left + wide, max(bottom, high)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left}" height="{bottom}" viewBox="0 0 {left} {bottom}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, f'<rect width="{left}" height="{bottom}" fill="#ffffff"/>', *bodies, "</svg>"]) + "\n"


def _part(title: str, drawing: Drawing, left: int, colours: Mapping[str, str]) -> tuple[list[str], int, int]:
    """The SVG elements of one diagram, its width and its height."""
    columns = max((len(row) for row in drawing.layers), default=1)
    wide = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP_X
    where: dict[str, tuple[int, int]] = {}
    for level, row in enumerate(drawing.layers):
        start = left + (wide - len(row) * WIDTH - (len(row) - 1) * GAP_X) // 2
        for index, box in enumerate(row):
            where[box.name] = (start + index * (WIDTH + GAP_X), MARGIN + 20 + level * (HEIGHT + GAP_Y))
    body = [f'<text x="{left + wide // 2}" y="{MARGIN + 6}" text-anchor="middle" fill="#555555">{_xml(title)}</text>']
    boxes = [box for row in drawing.layers for box in row]
    for box in boxes:
        for source in box.sources:
            (x1, y1), (x2, y2) = where[source], where[box.name]
            a, b, top, half = x1 + WIDTH // 2, x2 + WIDTH // 2, y1 + HEIGHT, GAP_Y // 2
            way = f"M{a} {top} C{a} {top + half} {b} {y2 - half} {b} {y2}" + ("" if box.text else f" V{y2 + HEIGHT}")
            body.append(f'<path d="{way}" fill="none" stroke="#888888"/>')
    for box in (b for b in boxes if b.text):
        x, y = where[box.name]
        if not box.end:
            fill = colours.get(box.scale, PLAIN)
            body.append(
                f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="4" fill="{fill}" stroke="#666666"/>'
            )
        body.append(
            f'<text x="{x + WIDTH // 2}" y="{y + 19}" text-anchor="middle" fill="#111111">{_xml(box.text)}</text>'
        )
    return body, wide, MARGIN + 20 + len(drawing.layers) * (HEIGHT + GAP_Y)


def _xml(text: str) -> str:
    """A name as XML text."""
    return escape(printable(text))

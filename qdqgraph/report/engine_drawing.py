"""Diagrams of engines and whole Q/DQ graphs: SVG, or DOT for Graphviz.

Colour is precision, the bar in a box is bytes or time, the width of a line is bytes, reformats are red with a thick
border. In a Q/DQ graph the sites that share one scale have a dashed outline of one colour, and findings are in the
boxes of their tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..engines.layers import Engine, Layer
from ..graph.graph import Graph
from ..graph.pair import pairs
from ..model.files import read_model
from ..printable import printable
from ..repair.options import Options
from ..repair.resolve import resolve
from ..rulekit.finding import Finding
from ..rulekit.rule import Rule, handled, scan
from ..targets.target import Target
from .drawing import COLOURS, Box, Drawing, Look

PRECISIONS = {
    "INT8": "#9bd3a0",
    "FP8": "#b9e3b0",
    "FP16": "#f7dc8c",
    "BF16": "#f0cf78",
    "FP32": "#f2a97a",
    "INT32": "#d9d9ec",
    "INT64": "#d9d9ec",
}
OTHER, LOUD, LOUD_BORDER, FOUND = "#e8e8e8", "#ff6b6b", "#b00020", "#b00020"
WIDE, HIGH = 250, 52
THICK = 9.0
"""In pixels: a box of an engine, and the widest line."""


def of_engines(engines: Sequence[Engine], by: str = "bytes") -> list[Drawing]:
    """The layers of each engine and the tensors between them, with one unit for all bars: `by` is "bytes" or "time"."""
    measured = [_measure(layer, by) for engine in engines for layer in engine.layers]
    largest = max((t.bytes for engine in engines for *_, t in engine.edges), default=0)
    return [_of_engine(engine, by, max(measured, default=0.0) or 1.0, largest) for engine in engines]


def of_model(model: Path, rules: Sequence[Rule], options: Options) -> Drawing:
    """The Q/DQ graph of a file with the groups of its ties and its findings.

    Raises:
        ModelError: the file cannot be read or imported.
        RuleError: a rule crashed.
    """
    graph = Graph.opened(read_model(model), model.parent, target=Target.named(options.target), keeps=handled(rules))
    solution, findings = resolve(graph, scan(graph, rules), options)
    groups = [group.sites for group in solution.groups if sum(bool(pairs(graph).at(s)) for s in group.sites) > 1]
    return of_graph(graph, groups, findings)


def _measure(layer: Layer, by: str) -> float:
    return (layer.time_ms or 0.0) if by == "time" else float(layer.bytes)


def _of_engine(engine: Engine, by: str, most: float, largest: int) -> Drawing:
    shown = [i for i, layer in enumerate(engine.layers) if layer.works]
    sources: dict[int, dict[str, float]] = {i: {} for i in shown}
    for source, reader, tensor in engine.edges:
        if source in sources and reader in sources:
            thick = _thick(tensor.bytes, largest)
            sources[reader][str(source)] = max(thick, sources[reader].get(str(source), 0.0))
    boxes = []
    for index in _sorted(shown, sources):
        layer, edges = engine.layers[index], sources[index]
        look = _look(layer, _measure(layer, by) / most)
        boxes.append(Box(str(index), _title(layer), "", tuple(edges), look=look, thick=tuple(edges.values())))
    return Drawing(tuple(boxes), WIDE, HIGH)


def _sorted(shown: Sequence[int], sources: Mapping[int, dict[str, float]]) -> list[int]:
    """The layers with sources before readers, whatever the order of the list; removes edges that close a cycle."""
    done: dict[int, None] = {}
    for first in shown:
        stack = [first]
        while stack:
            open_ = [int(s) for s in sources[stack[-1]] if int(s) not in done and int(s) not in stack]
            if open_:
                stack.append(open_[0])
            else:
                done[stack.pop()] = None
    place = {i: n for n, i in enumerate(done)}
    for reader in shown:
        for source in [s for s in sources[reader] if place[int(s)] >= place[reader]]:
            del sources[reader][source]
    return list(done)


def _thick(size: int, largest: int) -> float:
    return round(1 + (THICK - 1) * math.sqrt(size / largest), 1) if largest else 1.0


def _title(layer: Layer) -> str:
    """A short name: the scope of the first node, then the last part of each node's name."""
    nodes = [n for n in layer.nodes if not n.endswith((".weight", ".bias"))]
    if layer.cause or not nodes:
        return f"{layer.cause} {layer.quantizers[0] if layer.quantizers else layer.name}".strip()
    last = [n.rsplit("/", 1)[-1] for n in nodes]
    scope = nodes[0].rsplit("/", 1)[0].strip("/") if "/" in nodes[0] else ""
    return f"{scope} {' + '.join(last)}".strip()


def _look(layer: Layer, share: float) -> Look:
    types = " → ".join("+".join(t.precision for t in side) or "-" for side in (layer.inputs, layer.outputs))
    dims = "x".join(map(str, layer.outputs[0].dims)) if layer.outputs else ""
    time = "" if layer.time_ms is None else f", {layer.time_ms:.3f} ms"
    why = "".join(f"\n{r.rule}: {r.text}" for r in layer.why)
    return Look(
        fill=LOUD if layer.cause else PRECISIONS.get(layer.precision, OTHER),
        border=LOUD_BORDER if layer.cause else "#666666",
        loud=bool(layer.cause),
        lines=(f"{types}   {dims}", f"{layer.kind}, {layer.bytes:,} bytes{time}"),
        share=share,
        tip=f"{layer.name}\n{layer.kind}, computes in {layer.precision}{time}{why}",
    )


def of_graph(graph: Graph, groups: Iterable[Sequence[str]], findings: Iterable[Finding]) -> Drawing:
    """A whole Q/DQ graph: `groups` are the sites that share one scale; findings are shown at their
    places."""
    table = pairs(graph)
    outline = {site: COLOURS[i % len(COLOURS)] for i, sites in enumerate(groups) for site in sites}
    at: dict[str, list[Finding]] = {}
    for finding in findings:
        at.setdefault(finding.place, []).append(finding)
    boxes = []
    for box in Drawing.of(graph).boxes:
        name = box.name.strip()
        mine = at.get(name, [])
        node = graph.producer(name) if not box.end else None
        label = str(node.name) if node is not None and node.name else name
        codes = ", ".join(sorted({f.code for f in mine}))
        quantizes = node is not None and node.op in ("QuantizeLinear", "DequantizeLinear")
        look = Look(
            fill=PRECISIONS["INT8"] if quantizes else "#ffffff" if box.end else OTHER,
            border=FOUND if mine else "#666666",
            loud=bool(mine),
            lines=(label, codes) if mine else (label,),
            tip="\n".join([label, *(f"{f.code} {f.message}" for f in mine)]),
            outline=outline.get(table.root(name), ""),
        )
        boxes.append(replace(box, look=look))
    return Drawing(tuple(boxes), WIDE, HIGH)


def dot(parts: Sequence[tuple[str, Drawing]]) -> str:
    """The diagrams as one graph for Graphviz, each in its own cluster."""
    lines = ["digraph {", '  node [shape=box, style="filled,rounded", fontname="sans-serif", fontsize=10];']
    for number, (title, drawing) in enumerate(parts):
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(title)};"]
        known = {box.name: f"n{number}_{i}" for i, box in enumerate(drawing.boxes)}
        for box in drawing.boxes:
            look = box.look or Look(OTHER)
            text = "\n".join((box.text, *look.lines))
            width = 4 if look.loud else 1
            colours = f'fillcolor="{look.fill}", color="{look.outline or look.border}", penwidth={width}'
            lines.append(f"    {known[box.name]} [label={_quoted(text)}, tooltip={_quoted(look.tip)}, {colours}];")
        for box in drawing.boxes:
            lines += [f"    {known[s]} -> {known[box.name]} [penwidth={thick:g}];" for s, thick in box.lines]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = printable(text, keep="\n").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'

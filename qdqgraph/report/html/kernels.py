"""The kernels of engines for the page: one engine, or two aligned by the ONNX nodes of each kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ...engines.compare.diff import Diff
from ...engines.compare.match import KernelGroup
from ...engines.compare.totals import Totals
from ...engines.layers import Engine, Layer, Reason
from ...printable import printable
from .parts import Engines, Kernel, Mark, Row, Side, Why
from .words import dims, finite, kernel_title, sentence, types

Boxes = Callable[[Layer], tuple[int, ...]]
"""The boxes of the graph that a kernel computes."""


def no_boxes(layer: Layer) -> tuple[int, ...]:
    """The boxes of a kernel of an engine without a graph."""
    return ()


def one_engine(engine: Engine, boxes: Boxes = no_boxes) -> Engines:
    """One engine by itself."""
    return Engines((_side(engine, boxes),), "bytes" if engine.time_ms is None else "ms")


def two_engines(found: Diff, verdict: str, boxes: Sequence[Boxes] = (no_boxes, no_boxes)) -> Engines:
    """Two engines side by side."""
    timed = found.a.time_ms is not None and found.b.time_ms is not None
    sides = _side(found.a, boxes[0]), _side(found.b, boxes[1])
    return Engines(sides, "ms" if timed else "bytes", _rows(found), f"{sentence(verdict)}." if verdict else "")


def _side(engine: Engine, boxes: Boxes) -> Side:
    totals = Totals.of(engine.layers)
    return Side(
        name=printable(engine.name),
        source=printable(engine.source),
        kernels=tuple(_kernel(layer, boxes) for layer in engine.working),
        bytes=totals.bytes,
        ms=finite(totals.time_ms),
        precisions=_counted(Counter(layer.precision for layer in engine.working if not layer.cause)),
        causes=_counted(Counter(str(layer.cause) for layer in engine.working if layer.cause)),
    )


def _counted(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple((printable(name), count) for name, count in counts.most_common())


def _kernel(layer: Layer, boxes: Boxes) -> Kernel:
    return Kernel(
        name=printable(layer.name),
        title=kernel_title(layer),
        kind=printable(layer.kind),
        precision=printable(layer.precision),
        cause=layer.cause,
        reads=types(layer.inputs),
        writes=types(layer.outputs),
        shape=dims(layer.outputs[0].dims) if layer.outputs else "",
        bytes=layer.bytes,
        ms=finite(layer.time_ms),
        tactic=printable(layer.tactic),
        nodes=tuple(map(printable, layer.nodes)),
        why=tuple(map(why, layer.why)),
        boxes=boxes(layer),
    )


def why(reason: Reason) -> Why:
    """A reason of the forecast."""
    return Why(reason.rule, reason.link, printable(reason.text))


def _rows(found: Diff) -> tuple[Row, ...]:
    """The kernels of both engines, in the order of the first; what only the second has follows the kernel before it."""
    index = tuple({id(layer): i for i, layer in enumerate(engine.working)} for engine in (found.a, found.b))
    matching = found.matching
    marks: dict[int, Mark] = {}
    marked = ("types", found.precision_changed), ("layout", found.layout_changed), ("fused", found.fused_differently)
    for mark, groups in marked:
        marks.update((id(layer), mark) for group in groups for layer in (*group.a, *group.b))  # type: ignore[misc]
    rows = [Row(_mark(group, marks), *_indices(index, group.a, group.b)) for group in matching.groups]
    changed = {id(group.a[0]) for group in found.reformats_changed}
    for a, b in matching.reformats.both:
        rows.append(Row("changed" if id(a) in changed else "both", *_indices(index, (a,), (b,))))
    rows += [Row("gone", *_indices(index, (layer,), ())) for layer in matching.reformats.only_a]
    rows += [Row("new", *_indices(index, (), (layer,))) for layer in matching.reformats.only_b]
    rows += [Row("only", *_indices(index, (layer,), ())) for layer in matching.only_a]
    rows += [Row("only", *_indices(index, (), (layer,))) for layer in matching.only_b]
    return _in_order([row for row in rows if row.a or row.b])


def _mark(group: KernelGroup, marks: Mapping[int, Mark]) -> Mark:
    layer = (*group.a, *group.b)[0]
    return marks.get(id(layer), "same" if group.one else "fused")


def _indices(
    index: tuple[Mapping[int, int], ...], a: Sequence[Layer], b: Sequence[Layer]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    left, right = (
        tuple(sorted(known[id(layer)] for layer in layers if id(layer) in known))
        for known, layers in zip(index, (a, b), strict=True)
    )
    return left, right


def _in_order(rows: Sequence[Row]) -> tuple[Row, ...]:
    place: dict[int, tuple[int, int]] = {}
    last = -1
    for row in sorted((row for row in rows if row.b), key=lambda row: row.b[0]):
        last = row.a[0] if row.a else last
        place[id(row)] = (last, 0 if row.a else 1 + row.b[0])
    return tuple(sorted(rows, key=lambda row: place.get(id(row), (row.a[0], 0) if row.a else (last, 0))))

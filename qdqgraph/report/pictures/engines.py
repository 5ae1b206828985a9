"""The picture of an engine: its kernels and the tensors between them; all engines of a picture have one scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from ...engines.compare.totals import Totals
from ...engines.layers import Engine, Layer, Tensor
from ...errors import counted
from ..html.words import dims, kernel_parts
from .sheet import LOUD, OTHER, PRECISIONS, Card, Sheet, Wire

By = Literal["bytes", "time"]
THICK = 9.0
"""Pixels: the widest wire."""


def of_engines(engines: Sequence[Engine], by: By = "bytes") -> tuple[Sheet, ...]:
    """The kernels of each engine and the tensors between them.

    Args:
        engines: the engines.
        by: what the bars show.
    """
    most = max((_measure(layer, by) for engine in engines for layer in engine.layers), default=0.0)
    largest = max((t.bytes for engine in engines for *_, t in engine.edges), default=0)
    return tuple(_of_engine(engine, by, most, largest) for engine in engines)


def _measure(layer: Layer, by: By) -> float:
    return (layer.time_ms or 0.0) if by == "time" else float(layer.bytes)


def _of_engine(engine: Engine, by: By, most: float, largest: int) -> Sheet:
    shown = [i for i, layer in enumerate(engine.layers) if layer.works]
    sources: dict[int, dict[int, Tensor]] = {i: {} for i in shown}
    for source, reader, tensor in engine.edges:
        if source in sources and reader in sources:
            other = sources[reader].get(source)
            sources[reader][source] = tensor if other is None or tensor.bytes > other.bytes else other
    order = _sorted(shown, sources)
    number = {index: place for place, index in enumerate(order)}
    wires = tuple(
        Wire(number[source], number[index], _thick(t.bytes, largest), tip=f"{t.precision} {t.name} {dims(t.dims)}")
        for index in order
        for source, t in sources[index].items()
    )
    cards = tuple(_card(engine.layers[index], _measure(engine.layers[index], by) / (most or 1.0)) for index in order)
    longest = f"{most:.3f} ms" if by == "time" else f"{int(most):,} bytes"
    bar = f"{by} of the kernel, longest {longest}" if most else ""
    widths = f"width of a line: size of the tensor, largest {largest:,} bytes" if largest else ""
    return Sheet(f"{engine.name} ({engine.source})", _totals(engine), cards, wires, bar, widths)


def _totals(engine: Engine) -> tuple[str, ...]:
    found = Totals.of(engine.layers)
    time = "" if found.time_ms is None else f", {found.time_ms:.3f} ms"
    causes = ", ".join(f"{count} × {cause}" for cause, count in engine.causes.most_common())
    reformats = counted(found.reformats, "reformat") + (f" ({causes})" if causes else "")
    return (f"{counted(found.kernels, 'kernel')}, {found.bytes:,} bytes a run{time}", reformats)


def _sorted(shown: Sequence[int], sources: Mapping[int, dict[int, Tensor]]) -> list[int]:
    """The layers with sources before readers, whatever the order of the list; removes edges that close a cycle."""
    done: dict[int, None] = {}
    for first in shown:
        stack = [first]
        while stack:
            pending = [s for s in sources[stack[-1]] if s not in done and s not in stack]
            if pending:
                stack.append(pending[0])
            else:
                done[stack.pop()] = None
    place = {i: n for n, i in enumerate(done)}
    for reader in shown:
        for source in [s for s in sources[reader] if place[s] >= place[reader]]:
            del sources[reader][source]
    return list(done)


def _thick(size: int, largest: int) -> float:
    return round(1 + (THICK - 1) * math.sqrt(size / largest), 1) if largest else 1.0


def _card(layer: Layer, share: float) -> Card:
    scope, nodes = kernel_parts(layer)
    shape = dims(layer.outputs[0].dims) if layer.outputs else ""
    time = "" if layer.time_ms is None else f"{layer.time_ms:.3f} ms"
    size = " · ".join(part for part in (f"{layer.bytes:,} bytes", time) if part)
    known = layer.precision in PRECISIONS
    return Card(
        title=scope or nodes,
        words=" · ".join(part for part in (nodes if scope else "", layer.kind) if part),
        facts=(" · ".join(part for part in (_types(layer), shape) if part), size),
        alarms=(f"reformat: {layer.cause}",) if layer.cause else (),
        fill=LOUD if layer.cause else PRECISIONS[layer.precision] if known else OTHER,
        meaning="reformat" if layer.cause else layer.precision if known else "other precision",
        loud=bool(layer.cause),
        share=share,
        tip="\n".join(_tip(layer, time)),
    )


def _types(layer: Layer) -> str:
    sides = (dict.fromkeys(t.precision for t in side) for side in (layer.inputs, layer.outputs))
    return " → ".join("+".join(side) or "-" for side in sides)


def _tip(layer: Layer, time: str) -> Iterable[str]:
    yield layer.name
    yield ", ".join(part for part in (layer.kind, f"computes in {layer.precision}", time) if part)
    for word, tensors in (("reads", layer.inputs), ("writes", layer.outputs)):
        for t in tensors:
            yield " ".join(part for part in (word, t.name, t.precision, t.layout, dims(t.dims)) if part)
    yield from (f"{reason.rule}: {reason.text}" for reason in layer.why)

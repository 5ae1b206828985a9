"""Engines and their differences as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from ..engines.builders.prove import Proof
from ..engines.builders.tensorrt import PROOF
from ..engines.compare.diff import Diff
from ..engines.compare.match import KernelGroup
from ..engines.compare.storage import Storage
from ..engines.compare.totals import Totals, percent
from ..engines.layers import Engine, Layer, Tensor
from ..engines.share import Int8Share
from ..errors import counted
from .lines import say

LOUD = {"Q/DQ": "bold red", "type": "bold magenta", "layout": "yellow", "copy": "yellow", "unknown": "yellow"}


def show_engine(console: Console, engine: Engine) -> None:
    """Totals, then one line per layer: precision, time, bytes, kind, name and reasons."""
    say(console, Text(f"{engine.name}: {engine.source}", "bold"))
    say(console, f"  {_totals(Totals.of(engine.layers))}{_share(engine)}")
    if engine.causes:
        say(console, "  reformats by cause: " + _counted(engine.causes))
    say(console, "  computing in: " + _counted(Counter(x.precision for x in engine.working if not x.cause)))
    if engine.times is not None:
        t = engine.times
        say(console, f"  {t.runs} runs: median {t.compute_ms:.3f} ms, {t.latency_ms:.3f} ms with copies")
    for note in engine.notes:
        say(console, f"  note: {note}")
    for layer in engine.layers:
        say(console, _line(layer))


def show_storage(console: Console, found: Storage) -> None:
    """What an engine of TensorRT-RTX stores between convolution blocks: the figures that measure a placement."""
    stored = ", ".join(f"{precision} {count:,}" for precision, count in found.boundary.most_common())
    say(console, Text("Between convolution blocks", "bold"))
    say(console, f"  {found.boundary_bytes:,} bytes are written ({stored}), {found.float_bytes:,} of them as float")
    say(
        console,
        f"  {found.layers} layers: {found.convolutions} convolutions ({found.int8_convolutions} read INT8), "
        f"{found.pools} pools, {found.moves} moves; all of them move {found.moved:,} bytes",
    )


def show_proof(console: Console, proof: Proof) -> None:
    """The forecast's totals and TensorRT-RTX's storage and diff for a repair, with the evidence that they are."""
    say(console, Text(f"Engines before and after: {PROOF}", "bold"))
    for engine, totals in zip(("before", "after"), proof.predicted.totals, strict=True):
        say(console, f"  {proof.predicted.a.source}, {engine}: {_totals(totals)}")
    for word, storage in (("before", proof.before), ("after", proof.after)):
        if storage is not None:
            say(console, Text(f"TensorRT-RTX, {word}", "bold"))
            show_storage(console, storage)
    if proof.real is None:
        say(console, f"  the original model cannot be built: {proof.refused}")
    else:
        show_diff(console, proof.real, proof.verdict)


def _line(layer: Layer) -> Text:
    time = "" if layer.time_ms is None else f"{layer.time_ms:.3f} ms"
    head = f"  {layer.precision:<5} {time:>9} {layer.bytes:>12,} B  {layer.kind:<18} "
    line = Text(head, LOUD.get(layer.cause, ""))
    line.append(f"[{layer.cause}] " if layer.cause else "").append(layer.name)
    for reason in layer.why:
        line.append(f"\n{'':>12}{reason.rule}: {reason.text} ({reason.link})", "dim")
    return line


def _totals(totals: Totals) -> str:
    time = "" if totals.time_ms is None else f", {totals.time_ms:.3f} ms (sum of layer times)"
    counts = f"{counted(totals.layers, 'layer')}, {counted(totals.reformats, 'reformat')}"
    return f"{counts}, {totals.bytes:,} bytes read and written{time}"


def _share(engine: Engine) -> str:
    """How many weighted layers of a forecast are in INT8; other engines name their kernels otherwise."""
    share = Int8Share.of(engine)
    return f", {share.int8} of {share.weighted} weighted layers in INT8" if engine.predicted else ""


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "nothing"


def show_diff(console: Console, found: Diff, verdict: str = "") -> None:
    """The totals, what differs with the largest cost first, and the verdict: its own, or the given one."""
    say(console, Text("Totals", "bold"))
    for engine, totals in zip((found.a, found.b), found.totals, strict=True):
        say(console, f"  {engine.name} ({engine.source}): {_totals(totals)}{_share(engine)}")
        for note in engine.notes:
            say(console, f"    note: {note}")
    say(console, f"  change: {_delta(*found.totals)}")
    say(console, f"  {counted(found.same, 'kernel')} with the same nodes in both")
    if not found.comparable:
        say(console, "    note: their tensors have other sizes, so bytes and times cannot be compared")
    for title, layers in (("Reformats gone", found.reformats_removed), ("Reformats new", found.reformats_added)):
        _head(console, title, layers)
        for layer in layers:
            say(console, f"  [{layer.cause}] {layer.name}: {_moved(layer)}{_cost((layer,))}")
    if found.reformats_changed:
        _head(console, "Reformats between the same kernels that convert something else", found.reformats_changed)
        for group in found.reformats_changed:
            say(console, f"  {_conversion(group.a[0])} -> {_conversion(group.b[0])}: {group.b[0].name}{_change(group)}")
    _head(console, "Fused differently", found.fused_differently)
    for group in found.fused_differently:
        say(console, f"  {_side(group.a)}\n    -> {_side(group.b)}")
    _head(console, "Precision changed", found.precision_changed)
    for group in found.precision_changed:
        say(console, f"  {group.b[0].name}: {_types(group.a[0])} -> {_types(group.b[0])}{_change(group)}")
    _head(console, "Layout changed", found.layout_changed)
    for group in found.layout_changed:
        say(console, f"  {group.b[0].name}: {_layouts(group.a[0])} -> {_layouts(group.b[0])}{_change(group)}")
    for title, layers in ((f"Only in {found.a.name}", found.only_a), (f"Only in {found.b.name}", found.only_b)):
        if layers:
            _head(console, title, layers)
            for layer in layers:
                say(console, f"  {layer.name}{_cost((layer,))}")
    say(console, verdict or _verdict(found))


def _verdict(found: Diff) -> str:
    sign, reason = found.verdict
    word = {1: "is worse", -1: "is better", 0: "is not worse"}[sign]
    return f"{found.b.name} {word}: {reason}" if reason else f"{found.b.name} {word}"


def _delta(before: Totals, after: Totals) -> str:
    """The changes of the totals, with per cent."""

    def change(old: float, new: float, text: str) -> str:
        share = percent(old, new)
        return f"{text} ({share})" if share else text

    parts = [
        change(before.layers, after.layers, f"{after.layers - before.layers:+} layers"),
        change(before.reformats, after.reformats, f"{after.reformats - before.reformats:+} reformats"),
        change(before.bytes, after.bytes, f"{after.bytes - before.bytes:+,} bytes"),
    ]
    if before.time_ms is not None and after.time_ms is not None:
        parts.append(change(before.time_ms, after.time_ms, f"{after.time_ms - before.time_ms:+.3f} ms"))
    return ", ".join(parts)


def _conversion(layer: Layer) -> str:
    return f"[{layer.cause}] {'+'.join(t.precision for t in layer.inputs)} to {layer.precision}"


def _head(console: Console, title: str, found: Sequence[Layer] | Sequence[KernelGroup]) -> None:
    """A title with the number of its entries and their change of bytes and time."""
    text = f"{title}: {len(found) or 'none'}"
    if found and isinstance(found[0], Layer):
        text += _cost(layer for layer in found if isinstance(layer, Layer))
    elif found:
        groups = [group for group in found if isinstance(group, KernelGroup)]
        text += _change(KernelGroup(tuple(x for g in groups for x in g.a), tuple(y for g in groups for y in g.b)))
    say(console, Text(text, "bold"))


def _moved(layer: Layer) -> str:
    return " and ".join(map(_tensor, layer.inputs)) + " -> " + " and ".join(map(_tensor, layer.outputs))


def _tensor(tensor: Tensor) -> str:
    return f"'{tensor.name}' {tensor.precision} {tensor.layout}".rstrip()


def _cost(layers: Iterable[Layer]) -> str:
    totals = Totals.of(layers)
    return f", {totals.bytes:,} bytes" + ("" if totals.time_ms is None else f", {totals.time_ms:.3f} ms")


def _side(layers: tuple[Layer, ...], most: int = 6) -> str:
    names = [layer.name for layer in layers[:most]] + ([f"{len(layers) - most} more"] if len(layers) > most else [])
    return " | ".join(names) + _cost(layers)


def _types(layer: Layer) -> str:
    sides = ("+".join(t.precision for t in side) for side in (layer.inputs, layer.outputs))
    return f"{layer.precision} ({' in, '.join(sides)} out)"


def _layouts(layer: Layer) -> str:
    return " ".join(t.layout for t in (*layer.inputs, *layer.outputs))


def _change(group: KernelGroup) -> str:
    before, after = Totals.of(group.a), Totals.of(group.b)
    time = ""
    if before.time_ms is not None and after.time_ms is not None:
        time = f", {after.time_ms - before.time_ms:+.3f} ms"
    return f", {after.bytes - before.bytes:+,} bytes{time}"

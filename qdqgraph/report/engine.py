"""Engines and their differences as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

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
from .summary.words import compared

LOUD = {"Q/DQ": "bold red", "type": "bold magenta", "layout": "yellow", "copy": "yellow", "unknown": "yellow"}
KERNELS = 10
"""How many kernels of an engine are shown, those that cost most; with -v all."""
ENTRIES = 5
"""How many differences of a kind are shown, those that cost most; with -v all."""


def show_engine(console: Console, engine: Engine, *, verbose: bool = False) -> None:
    """Totals, and the reformats and kernels that cost most; with `verbose` all in the order they run, with reasons."""
    say(console, Text(f"{engine.name}: {engine.source}", "bold"))
    say(console, f"  {_totals(Totals.of(engine.layers))}{_share(engine)}")
    if engine.causes:
        say(console, "  reformats by cause: " + _counted(engine.causes))
    say(console, "  computing in: " + _counted(Counter(x.precision for x in engine.working if not x.cause)))
    if engine.times is not None:
        t = engine.times
        say(console, f"  {t.runs} runs: median {t.compute_ms:.3f} ms, {t.latency_ms:.3f} ms with copies")
    show_notes(console, (engine,), verbose=verbose)
    if verbose:
        for layer in engine.layers:
            say(console, _line(layer, reasons=True))
        return
    costly = sorted(engine.working, key=lambda layer: (-(layer.time_ms or 0), -layer.bytes))
    for title, converts, most in (("Reformats", True, ENTRIES), ("Kernels", False, KERNELS)):
        layers = [layer for layer in costly if bool(layer.cause) is converts]
        if layers:
            say(console, Text(f"{title}, by cost: {len(layers)}", "bold"))
        for layer in layers[:most]:
            say(console, _line(layer, reasons=converts))
        if len(layers) > most:
            say(console, f"  {len(layers) - most} more: -v lists all, in the order they run, and the reasons")


def show_notes(console: Console, engines: Sequence[Engine], *, verbose: bool = False) -> None:
    """The notes of engines, each once, with the engine if not all have it; of a note of several lines the first, or
    with `verbose` all."""
    for note in dict.fromkeys(note for engine in engines for note in engine.notes):
        some = [engine.name for engine in engines if note in engine.notes]
        whose = "" if len(some) == len(engines) else f" on {', '.join(some)}"
        first, *more = note.split("\n")
        say(console, f"  note{whose}: {first if verbose else first.removesuffix(':')}")
        for line in more if verbose else ():
            say(console, f"  {line}")


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


def show_proof(console: Console, proof: Proof, *, verbose: bool = False) -> None:
    """The verdict, then the forecast's totals and what TensorRT-RTX builds of both, with the evidence that they are."""
    if proof.real is None:
        first, *more = proof.refused.split("\n")
        say(console, Text(f"TensorRT-RTX builds the repaired model; {first}", "bold"))
        for line in more if verbose else ():
            say(console, f"  {line}")
    else:
        say(console, Text(f"TensorRT-RTX builds both models: {proof.verdict}", "bold"))
    say(console, f"  {PROOF}")
    for engine, totals in zip(("before", "after"), proof.predicted.totals, strict=True):
        say(console, f"  {proof.predicted.a.source}, {engine}: {_totals(totals)}")
    for word, storage in (("before", proof.before), ("after", proof.after)):
        if storage is not None:
            say(console, Text(f"TensorRT-RTX, {word}", "bold"))
            show_storage(console, storage)
    if proof.real is not None:
        _differences(console, proof.real, verbose=verbose)


def _line(layer: Layer, *, reasons: bool) -> Text:
    time = "" if layer.time_ms is None else f"{layer.time_ms:.3f} ms"
    head = f"  {layer.precision:<5} {time:>9} {layer.bytes:>12,} B  {layer.kind:<18} "
    line = Text(head, LOUD.get(layer.cause, ""))
    line.append(f"[{layer.cause}] " if layer.cause else "").append(layer.name)
    for reason in layer.why if reasons else ():
        line.append(f"\n{'':>12}{reason.rule}: {reason.text} ({reason.link})", "dim")
    return line


def _totals(totals: Totals) -> str:
    time = "" if totals.time_ms is None else f", {totals.time_ms:.3f} ms (sum of layer times)"
    counts = f"{counted(totals.kernels, 'kernel')}, {counted(totals.reformats, 'reformat')}"
    return f"{counts}, {totals.bytes:,} bytes read and written{time}"


def _share(engine: Engine) -> str:
    """How many weighted layers of a forecast are in INT8; other engines name their kernels otherwise."""
    share = Int8Share.of(engine)
    return f", {share.int8} of {share.weighted} weighted layers in INT8" if engine.predicted else ""


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "nothing"


def show_diff(console: Console, found: Diff, *, verbose: bool = False) -> None:
    """The verdict, the totals, and what differs with the largest cost first: a few entries of each kind, or with
    `verbose` all."""
    say(console, Text(_verdict(found), "bold"))
    _differences(console, found, verbose=verbose)


def _differences(console: Console, found: Diff, *, verbose: bool) -> None:
    for engine, totals in zip((found.a, found.b), found.totals, strict=True):
        say(console, f"  {engine.name} ({engine.source}): {_totals(totals)}{_share(engine)}")
    say(console, f"  change: {_delta(*found.totals)}")
    say(console, f"  {counted(found.same, 'kernel')} with the same nodes in both")
    show_notes(console, (found.a, found.b), verbose=verbose)
    if not found.comparable:
        say(console, "  note: their tensors have other sizes, so bytes and times cannot be compared")
    for title, entries, line in (
        ("Reformats removed", found.reformats_removed, _reformat),
        ("Reformats added", found.reformats_added, _reformat),
        ("Reformats between the same kernels that convert something else", found.reformats_changed, _reconverted),
        ("Fused differently", found.fused_differently, lambda g: f"{_side(g.a)}\n    -> {_side(g.b)}"),
        ("Precision changed", found.precision_changed, lambda g: _became(g, _types)),
        ("Layout changed", found.layout_changed, lambda g: _became(g, _layouts)),
        (f"Only in {found.a.name}", found.only_a, lambda layer: f"{layer.name}{_cost((layer,))}"),
        (f"Only in {found.b.name}", found.only_b, lambda layer: f"{layer.name}{_cost((layer,))}"),
    ):
        _section(console, title, entries, line, verbose=verbose)


def _section(
    console: Console, title: str, entries: Sequence[Any], line: Callable[[Any], str], *, verbose: bool
) -> None:
    """A title with the number of its entries and their change of bytes and time, and the first entries or all."""
    if not entries:
        return
    groups = [entry if isinstance(entry, KernelGroup) else KernelGroup((), (entry,)) for entry in entries]
    a, b = tuple(x for g in groups for x in g.a), tuple(x for g in groups for x in g.b)
    say(console, Text(f"{title}: {len(entries)}{_change(KernelGroup(a, b)) if a else _cost(b)}", "bold"))
    shown = entries if verbose else entries[:ENTRIES]
    for entry in shown:
        say(console, f"  {line(entry)}")
    if len(entries) > len(shown):
        say(console, f"  {len(entries) - len(shown)} more: -v lists all")


def _reformat(layer: Layer) -> str:
    return f"[{layer.cause}] {layer.name}: {_moved(layer)}{_cost((layer,))}"


def _reconverted(group: KernelGroup) -> str:
    return f"{_conversion(group.a[0])} -> {_conversion(group.b[0])}: {group.b[0].name}{_change(group)}"


def _became(group: KernelGroup, what: Callable[[Layer], str]) -> str:
    return f"{group.b[0].name}: {what(group.a[0])} -> {what(group.b[0])}{_change(group)}"


def _verdict(found: Diff) -> str:
    return ": ".join(filter(None, (compared(found), found.verdict[1])))


def _delta(before: Totals, after: Totals) -> str:
    """The changes of the totals, with per cent."""

    def change(old: float, new: float, text: str) -> str:
        share = percent(old, new)
        return f"{text} ({share})" if share else text

    parts = [
        change(before.kernels, after.kernels, f"{after.kernels - before.kernels:+} kernels"),
        change(before.reformats, after.reformats, f"{after.reformats - before.reformats:+} reformats"),
        change(before.bytes, after.bytes, f"{after.bytes - before.bytes:+,} bytes"),
    ]
    if before.time_ms is not None and after.time_ms is not None:
        parts.append(change(before.time_ms, after.time_ms, f"{after.time_ms - before.time_ms:+.3f} ms"))
    return ", ".join(parts)


def _conversion(layer: Layer) -> str:
    return f"[{layer.cause}] {'+'.join(t.precision for t in layer.inputs)} to {layer.precision}"


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

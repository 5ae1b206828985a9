"""`Totals`: the sums over the layers of an engine, and the verdict that two of them give."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ...errors import counted
from ..layers import Layer


@dataclass(frozen=True)
class Totals:
    """Sums over the layers of one engine.

    Attributes:
        kernels: number of layers that run a kernel.
        reformats: number of layers that only copy or convert a tensor.
        quantizers: number of those that are a Q or DQ which no kernel absorbed.
        bytes: bytes of activations read and written.
        time_ms: sum of the layer times in milliseconds; None if no time was measured.
    """

    kernels: int
    reformats: int
    quantizers: int
    bytes: int
    time_ms: float | None

    @classmethod
    def of(cls, layers: Iterable[Layer]) -> Totals:
        """Returns the sums over these layers."""
        working = [layer for layer in layers if layer.works]
        times = [layer.time_ms for layer in working if layer.time_ms is not None]
        copies = [layer for layer in working if layer.cause]
        quantizers = sum(layer.cause == "Q/DQ" for layer in copies)
        size = sum(layer.bytes for layer in working)
        return cls(len(working), len(copies), quantizers, size, sum(times) if times else None)


def percent(before: float, after: float) -> str:
    """Returns the change in per cent with its sign, "-33.3 %"; "" if there is nothing to compare with."""
    return f"{100 * (after / before - 1):+.1f} %" if before and after != before else ""


def judged(
    before: Totals, after: Totals, int8: tuple[int, int], *, sizes: bool, quantizers_only: bool
) -> tuple[int, str]:
    """Returns 1 if an engine is worse than the one before, -1 if it is better, 0 if neither; and what decides.

    Args:
        before: the sums of the engine before.
        after: the sums of the engine to judge.
        int8: how many kernels with a counterpart compute in INT8, before and after.
        sizes: whether times and bytes can be compared.
        quantizers_only: whether only the reformats by Q and DQ count.
    """
    if sizes and before.time_ms is not None and after.time_ms is not None:
        change = percent(before.time_ms, after.time_ms)
        return _verdict(
            before.time_ms, after.time_ms, f"it takes {after.time_ms:.3f} ms instead of {before.time_ms:.3f}", change
        )
    if sizes and before.bytes and after.bytes and before.bytes != after.bytes:
        text = f"it moves {after.bytes:,} bytes instead of {before.bytes:,}"
        return _verdict(before.bytes, after.bytes, text, percent(before.bytes, after.bytes))
    if not sizes and int8[0] != int8[1]:
        return _verdict(int8[1], int8[0], f"it computes {int8[1]} of the same kernels in INT8 instead of {int8[0]}")
    if quantizers_only:
        text = f"it has {counted(after.quantizers, 'reformat')} by Q and DQ instead of {before.quantizers}"
        return _verdict(before.quantizers, after.quantizers, text)
    return _verdict(
        before.reformats,
        after.reformats,
        f"it has {counted(after.reformats, 'reformat')} instead of {before.reformats}",
    )


def _verdict(before: float, after: float, text: str, change: str = "") -> tuple[int, str]:
    if after == before:
        return 0, ""
    return 1 if after > before else -1, f"{text} ({change})" if change else text


def same_shapes(pairs: Iterable[tuple[Layer, Layer]]) -> bool:
    """Returns whether most pairs of kernels write as many elements, of those whose outputs have known sizes."""
    same = other = 0
    for pair in pairs:
        counts = [sum(math.prod(t.dims) for t in layer.outputs) for layer in pair]
        if all(layer.outputs and all(d > 0 for t in layer.outputs for d in t.dims) for layer in pair):
            same, other = same + (counts[0] == counts[1]), other + (counts[0] != counts[1])
    return same >= other

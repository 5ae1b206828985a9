"""Compares two engines: fusion, precision, formats, reformats, bytes and times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..layers import Engine, Layer, Tensor
from ..share import Int8Share
from .match import KernelGroup, match


@dataclass(frozen=True)
class Totals:
    """Sums over the layers of one engine.

    Attributes:
        layers: number of layers that access tensors.
        reformats: number of layers that only copy or convert a tensor.
        bytes: bytes of activations read and written.
        time_ms: sum of the layer times in milliseconds; None if no time was measured.
    """

    layers: int
    reformats: int
    bytes: int
    time_ms: float | None

    @classmethod
    def of(cls, layers: Iterable[Layer]) -> Totals:
        """Returns the sums over these layers."""
        working = [layer for layer in layers if layer.works]
        times = [layer.time_ms for layer in working if layer.time_ms is not None]
        copies = sum(bool(layer.cause) for layer in working)
        return cls(len(working), copies, sum(layer.bytes for layer in working), sum(times) if times else None)


@dataclass(frozen=True)
class Diff:
    """The differences of two engines.

    Attributes:
        a: the first engine.
        b: the second engine.
        regrouped: nodes that are fused into different kernels.
        retyped: kernels of the same nodes with another compute, input or output precision.
        reshaped: kernels of the same nodes with another tensor layout.
        gone: reformats in a only.
        come: reformats in b only.
        lost: computing layers in a only, without NoOps.
        added: computing layers in b only, without NoOps.
        same: number of kernels that compute the same nodes in both engines, in any precision.
    """

    a: Engine
    b: Engine
    regrouped: tuple[KernelGroup, ...]
    retyped: tuple[KernelGroup, ...]
    reshaped: tuple[KernelGroup, ...]
    gone: tuple[Layer, ...]
    come: tuple[Layer, ...]
    lost: tuple[Layer, ...]
    added: tuple[Layer, ...]
    same: int

    @property
    def totals(self) -> tuple[Totals, Totals]:
        """The sums over each engine."""
        return Totals.of(self.a.layers), Totals.of(self.b.layers)

    @property
    def shares(self) -> tuple[Int8Share, Int8Share] | None:
        """What runs in INT8 in each engine; None unless both are forecasts."""
        both = self.a.predicted and self.b.predicted
        return (Int8Share.of(self.a), Int8Share.of(self.b)) if both else None

    @property
    def different(self) -> bool:
        """Whether the engines differ."""
        parts = (self.regrouped, self.retyped, self.reshaped, self.gone, self.come, self.lost, self.added)
        return any(parts) or self.totals[0] != self.totals[1]

    @property
    def worse(self) -> str:
        """Why b is worse than a; "" if it is not.

        Compares measured times if both engines have them; else, of forecasts, the weighted layers in INT8; else the
        bytes moved, else the number of reformats.
        """
        before, after = self.totals
        if before.time_ms is not None and after.time_ms is not None:
            slower = after.time_ms > before.time_ms
            return f"it takes {after.time_ms:.3f} ms instead of {before.time_ms:.3f}" if slower else ""
        if self.shares is not None and self.shares[1].int8 < self.shares[0].int8:
            old, new = self.shares
            return f"it runs {new.int8} of {new.weighted} weighted layers in INT8 instead of {old.int8}"
        if after.bytes != before.bytes and before.bytes and after.bytes:
            more = after.bytes > before.bytes
            return f"it moves {after.bytes:,} bytes instead of {before.bytes:,}" if more else ""
        if after.reformats > before.reformats:
            return f"it has {after.reformats} reformats instead of {before.reformats}"
        return ""


def diff(a: Engine, b: Engine) -> Diff:
    """Returns the differences of two engines from any sources."""
    found = match(a, b)
    ones = [g for g in found.groups if g.one]
    retyped = [g for g in ones if _types(g.a[0]) != _types(g.b[0])]
    reshaped = [g for g in ones if g not in retyped and _layouts(g.a[0]) != _layouts(g.b[0])]

    def real(layers: Iterable[Layer], copies: bool) -> tuple[Layer, ...]:
        return tuple(x for x in layers if bool(x.cause) is copies and x.kind != "NoOp")

    return Diff(
        a=a,
        b=b,
        regrouped=tuple(g for g in found.groups if not g.one),
        retyped=tuple(retyped),
        reshaped=tuple(reshaped),
        gone=real(found.only_a, copies=True),
        come=real(found.only_b, copies=True),
        lost=real(found.only_a, copies=False),
        added=real(found.only_b, copies=False),
        same=len(ones),
    )


def _types(layer: Layer) -> tuple[object, ...]:
    return layer.precision, *(sorted(t.precision for t in side) for side in (layer.inputs, layer.outputs))


def _layouts(layer: Layer) -> list[str]:
    tensors: tuple[Tensor, ...] = (*layer.inputs, *layer.outputs)
    return [t.layout for t in tensors if t.layout]

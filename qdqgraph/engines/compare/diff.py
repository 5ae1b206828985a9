"""Compares two engines: totals, fusion, precision, formats and reformats, each with the largest cost first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...errors import counted
from ..layers import Engine, Layer, Tensor
from ..share import Int8Share
from .match import KernelGroup, Matching, match
from .totals import Totals, judged, same_shapes


@dataclass(frozen=True)
class Diff:
    """The differences of two engines. Layers and groups are ordered by what they cost: time if both engines have
    times, else bytes.

    Attributes:
        a: the first engine.
        b: the second engine.
        fused_differently: nodes that are fused into different kernels.
        precision_changed: kernels of the same nodes with another compute, input or output precision.
        layout_changed: kernels of the same nodes with another tensor layout, where both engines give layouts.
        reformats_removed: reformats in a only.
        reformats_added: reformats in b only.
        reformats_changed: reformats between the same kernels, with another cause or other precisions.
        only_a: computing layers in a only.
        only_b: computing layers in b only.
        matching: which layers of the two correspond, in the order of the engines.
        same: number of kernels that compute the same nodes in both engines, in any precision.
        int8: of these, how many compute in INT8 in a, and in b.
        comparable: whether the kernels write tensors of the same sizes, so that bytes and times can be compared.
    """

    a: Engine
    b: Engine
    fused_differently: tuple[KernelGroup, ...]
    precision_changed: tuple[KernelGroup, ...]
    layout_changed: tuple[KernelGroup, ...]
    reformats_removed: tuple[Layer, ...]
    reformats_added: tuple[Layer, ...]
    reformats_changed: tuple[KernelGroup, ...]
    only_a: tuple[Layer, ...]
    only_b: tuple[Layer, ...]
    matching: Matching
    same: int
    int8: tuple[int, int]
    comparable: bool

    def __repr__(self) -> str:
        verdict = f"worse: {self.worse}" if self.worse else "not worse"
        return f"<Diff of {self.a!r} and {self.b!r}: {counted(self.same, 'kernel')} alike, the second is {verdict}>"

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
        groups = (self.fused_differently, self.precision_changed, self.layout_changed, self.reformats_changed)
        layers = (self.reformats_removed, self.reformats_added, self.only_a, self.only_b)
        return any(groups) or any(layers) or self.totals[0] != self.totals[1]

    @property
    def worse(self) -> str:
        """Why b is worse than a, by the totals; "" if it is not."""
        return self.verdict[1] if self.verdict[0] > 0 else ""

    @property
    def verdict(self) -> tuple[int, str]:
        """1 if b is worse than a, -1 if it is better, 0 if neither; and the totals that decide.

        A model that TensorRT refuses is worse than one that it accepts. Otherwise measured times decide, if both have
        them; else, of forecasts, the weighted layers in INT8 if b has fewer; else the bytes moved, else the number of
        reformats. A forecast and a real engine are compared by what a forecast states, kernels in INT8 and
        reformats by Q and DQ; engines of other shapes by kernels in INT8 and reformats.
        """
        if self.a.refused != self.b.refused:
            accepted = f"TensorRT accepts it and refuses {self.a.name}"
            return (1, "TensorRT refuses it") if self.b.refused else (-1, accepted)
        fewer = self.shares is not None and self.shares[1].int8 < self.shares[0].int8
        if self.shares is not None and fewer:
            old, new = self.shares
            return 1, f"it runs {new.int8} of {new.weighted} weighted layers in INT8 instead of {old.int8}"
        mixed = self.a.predicted != self.b.predicted
        return judged(*self.totals, self.int8, sizes=self.comparable and not mixed, quantizers_only=mixed)


def diff(a: Engine, b: Engine) -> Diff:
    """Returns the differences of two engines from any sources."""
    found = match(a, b)
    timed = a.time_ms is not None and b.time_ms is not None
    ones = [g for g in found.groups if g.one]
    retyped = [g for g in ones if _types(g.a[0]) != _types(g.b[0])]
    reshaped = [g for g in ones if g not in retyped and _other_layout(g.a[0], g.b[0])]
    altered = [KernelGroup((x,), (y,)) for x, y in found.reformats.both if (x.cause, _types(x)) != (y.cause, _types(y))]

    def weight(layers: Iterable[Layer]) -> float:
        totals = Totals.of(layers)
        return (totals.time_ms or 0.0) if timed else float(totals.bytes)

    def groups(given: Iterable[KernelGroup]) -> tuple[KernelGroup, ...]:
        return tuple(sorted(given, key=lambda g: -abs(weight(g.b) - weight(g.a))))

    def layers(given: Iterable[Layer]) -> tuple[Layer, ...]:
        return tuple(sorted(given, key=lambda layer: -weight((layer,))))

    return Diff(
        a=a,
        b=b,
        fused_differently=groups(g for g in found.groups if not g.one),
        precision_changed=groups(retyped),
        layout_changed=groups(reshaped),
        reformats_removed=layers(found.reformats.only_a),
        reformats_added=layers(found.reformats.only_b),
        reformats_changed=groups(altered),
        only_a=layers(found.only_a),
        only_b=layers(found.only_b),
        matching=found,
        same=len(ones),
        int8=(sum(g.a[0].precision == "INT8" for g in ones), sum(g.b[0].precision == "INT8" for g in ones)),
        comparable=same_shapes((g.a[0], g.b[0]) for g in ones),
    )


def _types(layer: Layer) -> tuple[object, ...]:
    return layer.precision, *(sorted(t.precision for t in side) for side in (layer.inputs, layer.outputs))


def _other_layout(a: Layer, b: Layer) -> bool:
    """Whether both layers give the layouts of all tensors, and these differ."""
    ours, theirs = _layouts(a), _layouts(b)
    return all(ours) and all(theirs) and ours != theirs


def _layouts(layer: Layer) -> list[str]:
    tensors: tuple[Tensor, ...] = (*layer.inputs, *layer.outputs)
    return [t.layout for t in tensors]

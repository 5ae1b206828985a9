"""The graph and the engines of a page, as plain values; see `data`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..histograms import Values

Tone = Literal["good", "bad", "warn", "plain"]
"""How a value is coloured, besides its text."""


@dataclass(frozen=True)
class Node:
    """An ONNX node inside a box.

    Attributes:
        role: what it is in its box: its core, a Q or DQ, or something that folds into the core.
        detail: attributes in words: "3x3, stride 2".
        tensor: its first output.
    """

    name: str
    op: str
    role: Literal["core", "pair", "folded"]
    tensor: str
    detail: str = ""


@dataclass(frozen=True)
class SitePair:
    """The quantization of a tensor.

    Attributes:
        tensor: the tensor that is quantized.
        kind: activation, weight or bias.
        scale: ONNX's scale if there is one for the whole tensor.
        scales: of per-channel scales their count, and the smallest, median and largest.
        integers: the type of the integers.
        zero: the zero-point in words; "" if it is zero.
        range: the smallest and the largest value that scale and zero-point represent.
        shape: of the tensor, in words.
        group: the group that shares its scale, as an index; None if it has no other member.
        was: the scale before the repair, if that is another one.
        bits: bits lost by that change.
        method: how the scale was chosen on data.
        values: what data show of it; None without data.
    """

    tensor: str
    kind: str
    scale: float | None
    scales: tuple[int, float, float, float] | None
    integers: str
    zero: str
    range: tuple[float, float] | None
    shape: str
    group: int | None = None
    was: float | None = None
    bits: float | None = None
    method: str = ""
    values: Values | None = None


@dataclass(frozen=True)
class Fact:
    """A figure about a box: what was measured of it."""

    label: str
    value: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Why:
    """A reason of the forecast: the documented rule, its source, and its effect here."""

    rule: str
    link: str
    text: str


@dataclass(frozen=True)
class Box:
    """A layer of the graph: a node, with the Q, DQ, activations and data movement that fold into it.

    Attributes:
        id: its number.
        title: its name without what repeats.
        op: the operator of its core; "input" or "output" for the ends of the graph.
        also: the operators that fold into it, without Q and DQ.
        name: the full name.
        end: whether it is an input or output of the graph.
        shape: of its result, in words.
        precision: what its kernel computes in, by the forecast; "" without one.
        kernel: the kernel that computes it, as an index; None if no kernel does.
        bytes: bytes that its kernel reads and writes in a run; 0 if another box has the kernel.
        reformats: conversions of its results, as indices of kernels.
    """

    id: int
    title: str
    op: str
    also: tuple[str, ...]
    name: str
    end: bool
    shape: str
    nodes: tuple[Node, ...]
    pairs: tuple[SitePair, ...]
    precision: str = ""
    kernel: int | None = None
    bytes: int = 0
    reformats: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Edge:
    """A tensor from one box to another.

    Attributes:
        quantized: whether the reader reads it through a pair.
        scale: of that pair; None if it is per channel or unknown.
        precision: what the reader's kernel reads, by the forecast; "" if unknown.
        fused: whether one kernel computes both ends, so that the tensor is not stored.
        reformats: conversions on the way, as indices of kernels.
    """

    source: int
    target: int
    tensor: str
    shape: str
    quantized: bool
    scale: float | None
    precision: str
    fused: bool
    reformats: tuple[int, ...] = ()


@dataclass(frozen=True)
class View:
    """A graph: before a repair, after it, or the only one.

    Attributes:
        groups: of the sites that share one scale, or will after the repair, the boxes that produce them.
    """

    title: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    groups: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Kernel:
    """A kernel of an engine.

    Attributes:
        title: a short name.
        cause: why it is a reformat; "" for a kernel that computes.
        reads: types of its inputs, in words.
        writes: types of its outputs, in words.
        cost: bytes or milliseconds, as the engines compare.
        boxes: the boxes that it computes.
    """

    name: str
    title: str
    kind: str
    precision: str
    cause: str
    reads: str
    writes: str
    shape: str
    bytes: int
    ms: float | None
    tactic: str
    nodes: tuple[str, ...]
    why: tuple[Why, ...]
    boxes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Side:
    """An engine: its totals and kernels, in execution order."""

    name: str
    source: str
    kernels: tuple[Kernel, ...]
    bytes: int
    ms: float | None
    precisions: tuple[tuple[str, int], ...]
    causes: tuple[tuple[str, int], ...]


Mark = Literal["same", "types", "layout", "fused", "gone", "new", "changed", "both", "only"]
"""Of a row of two engines: the same kernel; other types; another layout; other fusion; reformats that are gone, new,
changed, or in both; a kernel without a counterpart."""


@dataclass(frozen=True)
class Row:
    """Kernels of two engines that compute the same ONNX nodes, as indices."""

    mark: Mark
    a: tuple[int, ...]
    b: tuple[int, ...]


@dataclass(frozen=True)
class Engines:
    """One engine, or two side by side.

    Attributes:
        unit: what the bars show.
        rows: the kernels of both, aligned by their ONNX nodes; empty for one engine.
        verdict: which is better and why; "" for one engine.
    """

    sides: tuple[Side, ...]
    unit: Literal["bytes", "ms"]
    rows: tuple[Row, ...] = ()
    verdict: str = ""

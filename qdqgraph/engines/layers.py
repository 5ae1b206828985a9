"""`Engine`: the kernels an inference engine runs, one type for every source of it.

A forecast, a build on a real TensorRT and a trtexec export differ in what they know (times, tactics, reasons), not in
form: layers with tensors, the ONNX nodes each layer computes, and the precision it computes in.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

BITS = {
    "FP32": 32,
    "FP16": 16,
    "BF16": 16,
    "FP8": 8,
    "INT8": 8,
    "UINT8": 8,
    "INT32": 32,
    "INT64": 64,
    "BOOL": 8,
    "INT4": 4,
    "FP4": 4,
}
"""Bits of one element, by precision; any other precision is unknown."""

UNKNOWN = "?"
"""The precision of a tensor or layer where its source does not say."""

Cause = Literal["", "Q/DQ", "type", "layout", "copy"]
"""Why a layer only copies: a Q or DQ that no kernel absorbed, another type, another layout, a copy for a Concat."""

SYNCHRONISATION = frozenset({"signal", "wait", "shape_call"})
"""LayerTypes of Myelin that move no tensor."""


@dataclass(frozen=True)
class Tensor:
    """A tensor between layers.

    Attributes:
        name: as the engine names it, ONNX's name where it stems from the file.
        dims: dimensions, -1 for one that the source does not know.
        precision: a key of `BITS`, or `UNKNOWN`.
        layout: "linear", "CHW32", "HWC8" …, else the source's own words.
    """

    name: str
    dims: tuple[int, ...] = ()
    precision: str = UNKNOWN
    layout: str = ""

    @property
    def bytes(self) -> int:
        """Size without padding; 0 where a dimension or the precision is unknown."""
        if any(d < 0 for d in self.dims):
            return 0
        return math.ceil(math.prod(self.dims) * BITS.get(self.precision, 0) / 8)


@dataclass(frozen=True)
class Reason:
    """Why a forecast forms a layer: the documented rule, the page it is from, and what it means here."""

    rule: str
    link: str
    text: str


@dataclass(frozen=True)
class Layer:
    """One kernel.

    Attributes:
        name: as the engine names it; names can repeat.
        kind: the source's LayerType, or the forecast's word for it.
        nodes: names of the ONNX nodes it computes and of the constants in its name, Q and DQ left out.
        quantizers: names of the Q and DQ nodes it took in.
        precision: what it computes in, from weights, tactic and tensors.
        cause: why it only copies; "" for a layer that computes.
        time_ms: average time of a run in milliseconds, None where it was not measured.
        tactic: name of the implementation, "" where unknown.
        why: the reasons of a forecast.
        fields: everything else that the source says, as it says it.
    """

    name: str
    kind: str
    nodes: tuple[str, ...] = ()
    quantizers: tuple[str, ...] = ()
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    precision: str = UNKNOWN
    cause: Cause = ""
    time_ms: float | None = None
    tactic: str = ""
    why: tuple[Reason, ...] = ()
    fields: Mapping[str, object] = field(default_factory=dict, hash=False, compare=False)

    @property
    def bytes(self) -> int:
        """Bytes of activations read and written in a run."""
        return sum(t.bytes for t in (*self.inputs, *self.outputs))

    @property
    def works(self) -> bool:
        """Whether it touches data: Myelin's signals and waits do not."""
        return self.kind not in SYNCHRONISATION


@dataclass(frozen=True)
class Times:
    """Whole runs: how many, median of the GPU's computation and of the latency with copies, in milliseconds."""

    runs: int
    compute_ms: float
    latency_ms: float


@dataclass(frozen=True)
class Engine:
    """A layer graph.

    Attributes:
        name: what to call it: a file, as a rule.
        source: who says so: "trtexec", "TensorRT-RTX 1.7.1", "forecast for trt-10" …
        layers: in the order they run, as far as the source tells.
        bindings: names of inputs and outputs.
        times: whole runs, where they were measured.
        notes: what a reader must know about these figures.
    """

    name: str
    source: str
    layers: tuple[Layer, ...]
    bindings: tuple[str, ...] = ()
    times: Times | None = None
    notes: tuple[str, ...] = ()

    @property
    def working(self) -> tuple[Layer, ...]:
        """The layers that touch data."""
        return tuple(layer for layer in self.layers if layer.works)

    @property
    def reformats(self) -> tuple[Layer, ...]:
        """The layers that only copy."""
        return tuple(layer for layer in self.layers if layer.cause)

    @property
    def causes(self) -> Counter[str]:
        """How many layers only copy, by cause."""
        return Counter(layer.cause for layer in self.reformats)

    @property
    def time_ms(self) -> float | None:
        """Sum of the layers' times in milliseconds; None where none was measured."""
        known = [layer.time_ms for layer in self.layers if layer.time_ms is not None]
        return sum(known) if known else None

    @property
    def bytes(self) -> int:
        """Bytes of activations that all layers read and write in a run."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def edges(self) -> tuple[tuple[int, int, Tensor], ...]:
        """(producer, consumer, tensor) by index of the layers.

        Myelin uses a tensor's name again for another value: a layer reads what was written last before it.
        """
        later = {t.name: i for i, layer in reversed(list(enumerate(self.layers))) for t in layer.outputs}
        written: dict[str, int] = {}
        found: list[tuple[int, int, Tensor]] = []
        for index, layer in enumerate(self.layers):
            for tensor in layer.inputs:
                source = written.get(tensor.name, later.get(tensor.name))
                if source is not None and source != index:
                    found.append((source, index, tensor))
            written.update((t.name, index) for t in layer.outputs)
        return tuple(found)

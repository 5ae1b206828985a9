"""`Engine`: the kernels of an inference engine, one type for every source.

A forecast, a build by a real TensorRT and a trtexec export differ in their details (times, tactics, reasons). All give
layers with tensors, the ONNX nodes that each layer computes, and its precision.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import counted
from ..graph.graph import LARGEST

BITS = {
    "FP64": 64,
    "FP32": 32,
    "FP16": 16,
    "BF16": 16,
    "FP8": 8,
    "INT8": 8,
    "UINT8": 8,
    "INT16": 16,
    "INT32": 32,
    "INT64": 64,
    "BOOL": 8,
    "INT4": 4,
    "FP4": 4,
}
"""Bits per element, by precision; other precisions have an unknown size."""

EIGHT_BITS = frozenset({"INT8", "FP8"})
"""Precisions of quantized values in which TensorRT has kernels for weighted layers."""

UNKNOWN = "?"
"""The precision of a tensor or layer if the source does not give it."""

PREDICTED = "forecast for "
"""How the source of a forecast begins; the name of its target follows."""
NO_ENGINE = "no such engine exists"
"""How the note begins that TensorRT refuses the model of a forecast; the reason follows."""

Cause = Literal["", "Q/DQ", "type", "layout", "copy", "unknown"]
"""Why a layer is a reformat: a Q or DQ that no kernel absorbed, a type or layout change, a copy for a Concat, or a
reformat whose tensors the source does not give."""

NO_WORK = frozenset({"signal", "wait", "shape_call", "noop", "constant"})
"""LayerTypes, in lower case, without a kernel: Myelin's synchronization, views of a tensor (NoOp), and constants.
NVIDIA's engine explorer (trex 0.2.1, `engine_plan.py`, `parser.py`) leaves out the same layers."""


@dataclass(frozen=True)
class Tensor:
    """A tensor between layers.

    Attributes:
        name: its name in the engine; the ONNX name if the tensor is in the file.
        dims: dimensions, -1 if unknown.
        precision: a key of `BITS`, or `UNKNOWN`.
        layout: "linear", "CHW32", "HWC8" …, or the layout as the source writes it.
    """

    name: str
    dims: tuple[int, ...] = ()
    precision: str = UNKNOWN
    layout: str = ""

    @property
    def bytes(self) -> int:
        """Size in bytes without padding; 0 if a dimension or the precision is unknown, or no memory is that large."""
        if min(self.dims, default=0) < 0:
            return 0
        found = -(-math.prod(self.dims) * BITS.get(self.precision, 0) // 8)
        return found if found <= LARGEST else 0


@dataclass(frozen=True)
class Reason:
    """Why a forecast contains a layer.

    Attributes:
        rule: the documented fusion rule.
        link: the source of the rule.
        text: the effect in this case.
    """

    rule: str
    link: str
    text: str


@dataclass(frozen=True)
class Layer:
    """One kernel.

    Attributes:
        name: its name in the engine; names may repeat.
        kind: the LayerType of the source, or the kind of a forecast layer.
        nodes: names of the ONNX nodes it computes and of the constants in its name, without Q and DQ.
        quantizers: names of the Q and DQ nodes that it absorbed.
        inputs: tensors that it reads.
        outputs: tensors that it writes.
        precision: the precision it computes in, derived from weights, tactic and tensors.
        cause: why the layer is a reformat; "" for a layer that computes.
        time_ms: average time per run in milliseconds; None if not measured.
        tactic: name of the implementation; "" if unknown.
        why: the reasons of a forecast.
        fields: all other fields of the source, unchanged.
        alternative: in a forecast, where TensorRT decides by timing: the kernels that it may form instead of this one
            and its neighbors, each as the names of its nodes.
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
    alternative: tuple[tuple[str, ...], ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of activations read and written per run."""
        return sum(t.bytes for t in (*self.inputs, *self.outputs))

    @property
    def works(self) -> bool:
        """Whether the layer runs a kernel that accesses tensors; `NO_WORK` lists the kinds that do not."""
        return self.kind.lower() not in NO_WORK


@dataclass(frozen=True)
class Times:
    """Times of whole inference runs.

    Attributes:
        runs: number of runs.
        compute_ms: median GPU compute time in milliseconds.
        latency_ms: median latency including copies, in milliseconds.
    """

    runs: int
    compute_ms: float
    latency_ms: float


@dataclass(frozen=True)
class Engine:
    """A layer graph.

    Attributes:
        name: name for messages, usually the file name.
        source: where the layers come from: "trtexec", "TensorRT-RTX 1.7.1", "forecast for trt-10" …
        layers: the layers, in execution order if the source gives it.
        bindings: names of inputs and outputs.
        times: times of whole runs; None if not measured.
        notes: what to know about these figures.
    """

    name: str
    source: str
    layers: tuple[Layer, ...]
    bindings: tuple[str, ...] = ()
    times: Times | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        found = (
            f"{counted(len(self.working), 'kernel')}, {counted(len(self.reformats), 'reformat')}, {self.bytes:,} bytes"
        )
        return f"<Engine {self.name!r}, {self.source}: {found}>"

    @property
    def predicted(self) -> bool:
        """Whether it is a forecast, not built or exported."""
        return self.source.startswith(PREDICTED)

    @property
    def refused(self) -> bool:
        """Whether it is the forecast of a model that TensorRT refuses."""
        return any(note.startswith(NO_ENGINE) for note in self.notes)

    @property
    def working(self) -> tuple[Layer, ...]:
        """The layers that run a kernel."""
        return tuple(layer for layer in self.layers if layer.works)

    @property
    def reformats(self) -> tuple[Layer, ...]:
        """The layers that only copy or convert a tensor."""
        return tuple(layer for layer in self.layers if layer.cause)

    @property
    def causes(self) -> Counter[str]:
        """Number of reformats, by cause."""
        return Counter(layer.cause for layer in self.reformats)

    @property
    def time_ms(self) -> float | None:
        """Sum of the layer times in milliseconds; None if no time was measured."""
        known = [layer.time_ms for layer in self.working if layer.time_ms is not None]
        return sum(known) if known else None

    @property
    def bytes(self) -> int:
        """Bytes of activations that all working layers read and write per run."""
        return sum(layer.bytes for layer in self.working)

    @property
    def edges(self) -> tuple[tuple[int, int, Tensor], ...]:
        """(producer, consumer, tensor), with the working layers by index; NoOps are followed to what they view.

        Myelin reuses tensor names: a layer reads the value that was last written before it.
        """
        later = {t.name: i for i, layer in reversed(list(enumerate(self.layers))) for t in layer.outputs}
        written: dict[str, int] = {}
        found: list[tuple[int, int, Tensor]] = []
        viewed: dict[int, int] = {}
        for index, layer in enumerate(self.layers):
            for tensor in layer.inputs:
                source = written.get(tensor.name, later.get(tensor.name))
                if source is None or source == index:
                    continue
                if layer.works:
                    found.append((source, index, tensor))
                else:
                    viewed.setdefault(index, source)
            written.update((t.name, index) for t in layer.outputs)
        resolved = ((_followed(source, viewed), index, tensor) for source, index, tensor in found)
        return tuple(edge for edge in resolved if self.layers[edge[0]].works and edge[0] != edge[1])


def _followed(index: int, viewed: Mapping[int, int]) -> int:
    """Returns the layer whose output a chain of views shows; a layer of the chain if it is a cycle."""
    seen: set[int] = set()
    while index in viewed and index not in seen:
        seen.add(index)
        index = viewed[index]
    return index

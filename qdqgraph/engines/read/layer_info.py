"""Reads the exports of trtexec and the engine inspector into an `Engine`: layer info of 8.x, 10.x and 11.x, and times.

The versions differ in words, not in structure: `Format/Datatype` in one field or in two, `Bindings` (names) or
`I/O Tensors` (objects), Metadata or none. Unknown fields are kept in `Layer.fields`. An engine built without detailed
verbosity lists names only: its layers have nodes and reformats, but no tensors, precisions or bytes.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from ...errors import EngineError, counted
from ..layers import UNKNOWN, Cause, Engine, Layer, Tensor, Times
from . import formats, names
from .jsonfile import MAX_LAYERS, Duration, as_form

DETAILED = "rebuild the engine with --profilingVerbosity=detailed and export --exportLayerInfo again"
READ_HERE = frozenset({"Name", "LayerType", "Inputs", "Outputs", "Metadata", "TacticName"})
TACTIC = re.compile(r"(?:^|_)(?:[iu]8[iuf]\d+_[iu]8i32|i8816|imma|int8|fp8|e4m3)", re.IGNORECASE)
HALF_TACTIC = re.compile(r"(?:^|_)(?:f16f16|hmma|h16816|h1688|fp16|bf16bf16)", re.IGNORECASE)
COPIES = frozenset({"reformat", "noop", "scale", "quantize", "dequantize", "kgen", "myelin", "shuffle", "copy"})
"""LayerTypes, in lower case, that only copy if they contain no nodes except Q and DQ."""
WEIGHTED = frozenset({"correlation", "gemm", "conv", "deconv"})
"""LayerTypes of Myelin whose sums, written in 16 or 32 bits, a following kgen scales and quantizes: it counts as part
of the same kernel. What reads an INT8 or FP8 output is a kernel of its own: that output is already quantized."""
EIGHT = frozenset({"INT8", "FP8"})


class TensorRow(Struct, frozen=True):
    """A tensor of a layer. 11.x has separate fields for format and type; the latter is spelled DataType or Datatype."""

    name: str = field(name="Name")
    dims: tuple[int, ...] = field(name="Dimensions", default=())
    both: str = field(name="Format/Datatype", default="")
    format: str = field(name="Format", default="")
    type: str = field(name="DataType", default="")
    type_too: str = field(name="Datatype", default="")


class LayerRow(Struct, frozen=True, rename="pascal"):
    """The fields of a layer that are read."""

    name: str
    layer_type: str = ""
    inputs: tuple[TensorRow, ...] = ()
    outputs: tuple[TensorRow, ...] = ()
    metadata: str = ""
    tactic_name: str = ""


class Binding(Struct, frozen=True, rename="pascal"):
    """An input or output of the network, from 10.x on."""

    name: str


class LayerInfo(Struct, frozen=True):
    """The fields of an export that are read."""

    layers: tuple[LayerRow, ...] = field(name="Layers")
    bindings: tuple[str, ...] = field(name="Bindings", default=())
    tensors: tuple[Binding, ...] | UnsetType = field(name="I/O Tensors", default=UNSET)


class ProfileRow(Struct, frozen=True, rename="camel"):
    """A layer of a profile."""

    name: str
    average_ms: Duration


class Run(Struct, frozen=True, rename="camel"):
    """A run of the whole network."""

    compute_ms: Duration
    latency_ms: Duration


def engine_of(content: object, name: str, *, place: str, source: str = "trtexec", bare: bool = False) -> Engine:
    """The engine that the JSON of the engine inspector describes.

    Args:
        content: the JSON.
        name: the name of the engine.
        place: how messages begin.
        source: where the layers come from.
        bare: layer names without details are accepted, because a profile gives their times.

    Raises:
        EngineError: it is not layer info, or contains layer names only; the message begins with `place`.
    """
    if not isinstance(content, dict) or "Layers" not in content:
        raise EngineError(f"{place}: {_mistaken(content)}")
    rows = content["Layers"]
    if isinstance(rows, list) and len(rows) > MAX_LAYERS:
        raise EngineError(f"{place}: Layers contains {len(rows):,} layers; no engine has more than {MAX_LAYERS:,}")
    notes: list[str] = []
    if isinstance(rows, list) and rows and all(isinstance(row, str) for row in rows):
        if not bare:
            raise EngineError(f"{place}: it contains layer names only; give a profile with --profile, or {DETAILED}")
        rows = [{"Name": row} for row in rows]
        notes.append(f"the export contains layer names only: no tensors, types or bytes; {DETAILED}")
    info = as_form({**content, "Layers": rows}, LayerInfo, place)
    found = settled_all([_layer(row, given) for row, given in zip(info.layers, rows, strict=True)])
    first = [layer for layer in found if _profile(layer.name) in (None, 0)]
    if len(first) < len(found):
        notes.append(f"the engine has several optimization profiles; these are the {len(first)} layers of the first")
    if any(d < 0 for layer in first for t in (*layer.inputs, *layer.outputs) for d in t.dims):
        notes.append("shapes are dynamic: tensors with a dynamic dimension count as 0 bytes")
    bindings = info.bindings if info.tensors is UNSET else tuple(tensor.name for tensor in info.tensors)
    return Engine(name, source, tuple(first), bindings, notes=tuple(notes))


def layers_of(rows: Sequence[Mapping[str, Any]], place: str) -> tuple[Layer, ...]:
    """The layers of rows of the inspector's JSON.

    Raises:
        EngineError: a row has another form; the message begins with `place`.
    """
    return settled_all([_layer(as_form(row, LayerRow, f"{place}: [{i}]"), row) for i, row in enumerate(rows)])


def _mistaken(content: object) -> str:
    """What a file is that is not layer info, and what to do."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        if "count" in content[0]:
            return "this is a profile: give it with --profile, and give the file of --exportLayerInfo here"
        if "computeMs" in content[0] or "latencyMs" in content[0]:
            return "these are run times: give them with --times, and give the file of --exportLayerInfo here"
    return "this is not layer info: it has no list 'Layers', which trtexec --exportLayerInfo writes"


def _profile(name: str) -> int | None:
    found = names.PROFILE.search(name)
    return int(found[1][:9]) if found else None


def _layer(row: LayerRow, given: Mapping[str, object]) -> Layer:
    nodes, quantizers = names.of_layer(row.name, row.metadata)
    return Layer(
        name=row.name,
        kind=row.layer_type,
        nodes=nodes,
        quantizers=quantizers,
        inputs=tuple(map(_tensor, row.inputs)),
        outputs=tuple(map(_tensor, row.outputs)),
        tactic=row.tactic_name,
        fields={key: value for key, value in given.items() if key not in READ_HERE},
    )


def _tensor(row: TensorRow) -> Tensor:
    if row.both:
        return Tensor(row.name, row.dims, *formats.split(row.both))
    return Tensor(row.name, row.dims, formats.precision(row.type or row.type_too), formats.layout(row.format))


def settled_all(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers with cause and precision, derived from their contents.

    Myelin lists a convolution also in the Metadata of its epilogue and of the kernel that quantizes its input. In
    layers that may only copy, a node counts only if no other layer has the stronger claim to it (`_claim`).
    """
    owner: dict[str, int] = {}
    for index, layer in enumerate(layers):
        for node in layer.nodes:
            if node not in owner or _claim(layer) > _claim(layers[owner[node]]):
                owner[node] = index
    sums = {t.name for layer in layers if layer.kind in WEIGHTED for t in layer.outputs if t.precision not in EIGHT}
    found = []
    for index, layer in enumerate(layers):
        mine = layer.nodes
        if layer.kind.lower() in COPIES:
            mine = tuple(n for n in mine if owner[n] == index)
        own = replace(layer, nodes=mine)
        if _dequantizes(layer) or not any(t.name in sums for t in layer.inputs):
            own = replace(own, cause=cause(own))
        found.append(replace(own, precision=precision(own)))
    return tuple(found)


def _dequantizes(layer: Layer) -> bool:
    """Whether a layer contains nothing but DQs: after a product that is already complete, not its epilogue."""
    return bool(layer.quantizers) and not layer.nodes and all("dequant" in q.lower() for q in layer.quantizers)


def _claim(layer: Layer) -> tuple[bool, float]:
    """How likely a layer computes a node that several layers list: not a copy before a copy, then the one with fewer
    nodes."""
    return layer.kind.lower() not in COPIES, 1 / len(layer.nodes)


def cause(layer: Layer) -> Cause:
    """Why a layer only copies; "" if it computes or does nothing (NoOp). A layer without a kind is judged by name."""
    kind = layer.kind.lower()
    if not kind:
        return "Q/DQ" if layer.quantizers and not layer.nodes else _named_cause(layer.name)
    if kind not in COPIES or layer.nodes or kind == "noop":
        return _copied(layer) if kind == "reformat" else ""
    if layer.fields.get("Origin") == "QDQ" or layer.quantizers:
        return "Q/DQ"
    return _copied(layer) if kind in ("reformat", "copy") else ""


def _named_cause(name: str) -> Cause:
    """The cause that a layer's name gives."""
    if name.endswith(" copy"):
        return "copy"
    return "unknown" if names.REFORMATTING.match(name) else ""


def _copied(layer: Layer) -> Cause:
    if layer.fields.get("Origin") == "QDQ":
        return "Q/DQ"
    if layer.name.endswith(" copy"):
        return "copy"
    before, after = ({t.precision for t in side} for side in (layer.inputs, layer.outputs))
    return "type" if before != after else "layout"


def precision(layer: Layer) -> str:
    """The precision in which a layer computes: its weights' type, else its tactic's, else its first input's; of a copy,
    its output's."""
    if layer.cause or not layer.inputs:
        return layer.outputs[0].precision if layer.outputs else UNKNOWN
    weights = layer.fields.get("Weights", layer.fields.get("ConvWeights"))
    if isinstance(weights, dict) and isinstance(weights.get("Type"), str):
        found = formats.precision(weights["Type"])
        if found != UNKNOWN:
            return found
    if TACTIC.search(layer.tactic):
        return "FP8" if re.search(r"fp8|e4m3", layer.tactic, re.IGNORECASE) else "INT8"
    if HALF_TACTIC.search(layer.tactic):
        return "BF16" if "bf16" in layer.tactic.lower() else "FP16"
    return layer.inputs[0].precision


def timed(engine: Engine, content: object, place: str) -> Engine:
    """The engine with the times of a profile; if a name repeats, its n-th layer has its n-th entry.

    Raises:
        EngineError: the content is not a profile, or belongs to another engine.
    """
    queues: dict[str, deque[float]] = defaultdict(deque)
    for index, entry in enumerate(as_form(content, list[dict[str, Any]], f"{place}: this is not a profile")):
        if "name" in entry:
            row = as_form(entry, ProfileRow, f"{place}: [{index}]")
            queues[row.name].append(row.average_ms)
    layers: list[Layer] = []
    for layer in engine.layers:
        queue = queues.get(layer.name) or queues.get(names.PROFILE.sub("", layer.name))
        layers.append(replace(layer, time_ms=queue.popleft()) if queue else layer)
    missing = [layer.name for layer in layers if layer.time_ms is None and layer.works]
    over = sum(len(queue) for queue in queues.values())
    if len(missing) == len([layer for layer in layers if layer.works]) or not queues:
        raise EngineError(f"{place}: no layer of {engine.name} is in this profile: it belongs to another engine")
    notes = list(engine.notes)
    if missing:
        notes.append(f"{counted(len(missing), 'layer')} without a time in {Path(place).name}, such as '{missing[0]}'")
    if over:
        notes.append(f"entries of {Path(place).name} that belong to no layer: {over}")
    return replace(engine, layers=tuple(layers), notes=tuple(notes))


def runs(content: object, place: str) -> Times:
    """The times of whole runs, in ms, from a file of `--exportTimes`.

    Raises:
        EngineError: it is not a list of run times, or empty.
    """
    rows = as_form(content, list[Run], f"{place}: this is not a list of run times")
    if not rows:
        raise EngineError(f"{place}: it contains no run")
    compute, latency = (statistics.median(getattr(row, key) for row in rows) for key in ("compute_ms", "latency_ms"))
    return Times(len(rows), compute, latency)

"""Engines as JSON of our own, so that one that was built or forecast once can be compared later."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema

from ...errors import EngineError
from ..layers import Engine, Layer, Reason, Tensor, Times
from .jsonfile import layers, load
from .layer_info import engine_of, runs, timed

FORMAT = 1
"""Version of the JSON form."""
CAUSES = ["", "Q/DQ", "type", "layout", "copy"]
NAMES = {"type": "array", "items": {"type": "string"}}
DURATION = {"type": "number", "minimum": 0}


def _object(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TENSORS = {
    "type": "array",
    "items": _object(
        name={"type": "string"},
        dims={"type": "array", "items": {"type": "integer"}},
        precision={"type": "string"},
        layout={"type": "string"},
    ),
}
REASONS = {
    "type": "array",
    "items": _object(rule={"type": "string"}, link={"type": "string"}, text={"type": "string"}),
}
LAYER = _object(
    name={"type": "string"},
    kind={"type": "string"},
    nodes=NAMES,
    quantizers=NAMES,
    inputs=TENSORS,
    outputs=TENSORS,
    precision={"type": "string"},
    cause={"enum": CAUSES},
    time_ms={"anyOf": [DURATION, {"type": "null"}]},
    tactic={"type": "string"},
    why=REASONS,
    fields={"type": "object"},
)
SCHEMA = _object(
    qdqgraph_engine={"const": FORMAT},
    name={"type": "string"},
    source={"type": "string"},
    layers={"type": "array", "items": LAYER},
    bindings=NAMES,
    times={"anyOf": [{"type": "null"}, _object(runs={"type": "integer"}, compute_ms=DURATION, latency_ms=DURATION)]},
    notes=NAMES,
)


def to_json(engine: Engine) -> str:
    """The engine as text that `open_engine` reads."""
    return json.dumps({"qdqgraph_engine": FORMAT, **asdict(engine)}, indent=1)


def open_engine(path: Path, *, profile: Path | None = None, times: Path | None = None) -> Engine:
    """The engine in a file: layer info of trtexec, or what `to_json` wrote.

    A profile beside it (`x.graph.json`, `x.profile.json`: the names that NVIDIA's tools write) is read as well.

    Args:
        profile: what `--exportProfile` wrote; times: what `--exportTimes` wrote.

    Raises:
        EngineError: a file cannot be read, or holds something else.
    """
    content = load(path, "layer info of an engine")
    if isinstance(content, dict) and "qdqgraph_engine" in content:
        engine = _from_json(content, path)
    else:
        engine = engine_of(content, path.name, place=str(path))
    beside = path.with_name(path.name.removesuffix(".graph.json") + ".profile.json")
    if profile is None and path.name.endswith(".graph.json") and beside.is_file():
        profile = beside
        engine = replace(engine, notes=(*engine.notes, f"times are from {beside.name}, which lies beside it"))
    if profile is not None:
        engine = timed(engine, load(profile, "profile of an engine"), str(profile))
    if times is not None:
        engine = replace(engine, times=runs(load(times, "list of run times"), str(times)))
    return engine


def _from_json(content: dict[str, Any], path: Path) -> Engine:
    version = content["qdqgraph_engine"]
    if version != FORMAT:
        raise EngineError(f"{path}: this engine has format {str(version)[:20]}; this qdqgraph reads format {FORMAT}")
    layers(content.get("layers"), f"{path}: layers")
    try:
        _valid()(content)
    except fastjsonschema.JsonSchemaValueException as error:
        raise EngineError(f"{path}: this saved engine is damaged: {str(error)[:200]}") from error
    return Engine(
        content["name"],
        content["source"],
        tuple(_layer(entry) for entry in content["layers"]),
        tuple(content["bindings"]),
        Times(**content["times"]) if content["times"] else None,
        tuple(content["notes"]),
    )


@cache
def _valid() -> Callable[[object], object]:
    return fastjsonschema.compile(SCHEMA)


def _layer(entry: dict[str, Any]) -> Layer:
    inputs, outputs = (
        tuple(Tensor(**{**t, "dims": tuple(t["dims"])}) for t in entry[k]) for k in ("inputs", "outputs")
    )
    changed = {
        "nodes": tuple(entry["nodes"]),
        "quantizers": tuple(entry["quantizers"]),
        "inputs": inputs,
        "outputs": outputs,
        "why": tuple(Reason(**r) for r in entry["why"]),
    }
    return Layer(**{**entry, **changed})

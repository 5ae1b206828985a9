"""Engines in a JSON format of our own, so that a built or forecast engine can be compared later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ...documents import document, name_of, other_version
from ...errors import EngineError
from ...model import kinds
from ...model.recognized import mistaken
from ..layers import Cause, Engine
from . import log
from .jsonfile import MAX_LAYERS, Duration, as_form, load, parsed, read_text
from .layer_info import engine_of, runs, timed

LAYERS, PROFILE, TIMES = "layer info of an engine", "a profile of an engine", "a list of run times"
_UNKNOWN = (kinds.JSON, kinds.TEXT, kinds.EMPTY)
_LAYERS = (kinds.LAYERS, kinds.SAVED_ENGINE, kinds.LOG, *_UNKNOWN)
_PROFILES, _TIMES = (kinds.PROFILE, kinds.LOG, *_UNKNOWN), (kinds.TIMES, *_UNKNOWN)


class TensorForm(Struct, frozen=True):
    """A tensor between layers"""

    name: str
    dims: Annotated[tuple[int, ...], Meta(description="Dimensions, -1 for an unknown one.")]
    precision: str
    layout: str


class ReasonForm(Struct, frozen=True):
    """Why a forecast forms a layer"""

    rule: str
    link: str
    text: str


class LayerForm(Struct, frozen=True):
    """One kernel"""

    name: str
    kind: str
    nodes: tuple[str, ...]
    quantizers: tuple[str, ...]
    inputs: tuple[TensorForm, ...]
    outputs: tuple[TensorForm, ...]
    precision: str
    cause: Annotated[Cause, Meta(description="Why the layer only copies; empty for one that computes.")]
    time_ms: Duration | None
    tactic: str
    why: tuple[ReasonForm, ...]
    fields: Annotated[dict[str, Any], Meta(description="All other fields of the source, unchanged.")]
    alternative: Annotated[
        tuple[tuple[str, ...], ...],
        Meta(
            description="Kernels that TensorRT may form instead, where it decides by timing: the names of their nodes."
        ),
    ] = ()


class TimesForm(Struct, frozen=True):
    """Whole runs"""

    runs: int
    compute_ms: Duration
    latency_ms: Duration


class EngineForm(Struct, frozen=True):
    """An engine as qdqgraph saves it: its layers in the order they run"""

    name: str
    source: str
    layers: Annotated[tuple[LayerForm, ...], Meta(max_length=MAX_LAYERS)]
    bindings: tuple[str, ...]
    times: TimesForm | None
    notes: tuple[str, ...]


def to_json(engine: Engine) -> str:
    """The engine as text that `open_engine` reads."""
    return document("engine", msgspec.to_builtins(engine))


def open_engine(path: Path, *, profile: Path | None = None, times: Path | None = None) -> Engine:
    """The engine in a file: layer info of trtexec, the output of `to_json`, or a log that lists the layers.

    A profile next to it (`x.graph.json`, `x.profile.json`: the names that NVIDIA's tools write) is read too, and the
    profile that a log contains.

    Args:
        path: the file.
        profile: the output of `--exportProfile`, or a log with the output of `--dumpProfile`.
        times: the output of `--exportTimes`.

    Raises:
        EngineError: a file cannot be read, or has different content.
    """
    try:
        return _opened(path, profile, times)
    except EngineError as error:
        for file, wanted, accepts in ((path, LAYERS, _LAYERS), (profile, PROFILE, _PROFILES), (times, TIMES, _TIMES)):
            if file is not None and (other := mistaken(file, wanted, accepts=accepts)):
                raise EngineError(f"{file}: {other}") from error
        raise


def _opened(path: Path, profile: Path | None, times: Path | None) -> Engine:
    notes: tuple[str, ...] = ()
    text = read_text(path, LAYERS)
    neighbor = path.with_name(path.name.removesuffix(".graph.json") + ".profile.json")
    if profile is None and path.name.endswith(".graph.json") and neighbor.is_file():
        profile, notes = neighbor, (f"times are from {neighbor.name}, in the same folder",)
    measured = None if profile is None else _profile(read_text(profile, PROFILE), profile)
    if listed := () if text.lstrip().startswith("{") else _listed(text, path):
        content: object = {"Layers": list(listed)}
        notes = (*notes, "the layers are from a log")
        if profile is None and (rows := log.profile(text)):
            measured, profile = rows, path
    else:
        content = parsed(text, path, LAYERS)
    if name_of(content) == "engine":
        engine = _from_json(content, path)
    else:
        engine = engine_of(content, path.name, place=str(path), bare=measured is not None)
    engine = replace(engine, notes=(*engine.notes, *notes))
    if measured is not None:
        engine = timed(engine, measured, str(profile))
    if times is not None:
        engine = replace(engine, times=runs(load(times, TIMES), str(times)))
    return engine


def _listed(text: str, path: Path) -> tuple[Mapping[str, Any] | str, ...]:
    """The layers that a log lists; empty if the file is no such log."""
    try:
        return log.rows(text)
    except EngineError as error:
        raise EngineError(f"{path}: {error}") from error


def _profile(text: str, path: Path) -> object:
    """The rows of a profile, from JSON or from the table in a log."""
    return log.profile(text) or parsed(text, path, PROFILE)


def _from_json(content: object, path: Path) -> Engine:
    if other := other_version(content, "engine"):
        raise EngineError(f"{path}: this saved engine has another format: {other}")
    form = as_form(content, EngineForm, f"{path}: this saved engine is damaged")
    return msgspec.convert(form, Engine, from_attributes=True)

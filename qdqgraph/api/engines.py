"""Calls on engines: forecast, build, read_engine, compare."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from ..engines.builders.builder import built
from ..engines.builders.how import Build
from ..engines.builders.limits import Limits
from ..engines.compare.diff import Diff, diff
from ..engines.forecast.forecast import forecast as forecast_graph
from ..engines.layers import Engine
from ..engines.read.saved import open_engine
from ..graph.graph import Graph
from ..targets.target import DEFAULT, Target
from . import given
from .given import File, Model

Source: TypeAlias = Engine | File
"""An engine, or a file: layer info of trtexec, a saved engine, or an ONNX model to forecast."""


def forecast(model: Model, target: str = DEFAULT, *, folder: File | None = None) -> Engine:
    """The kernels that a generation of TensorRT will form, by its documented rules.

    Raises:
        ModelError: the model cannot be read or imported, or there is no such target.
    """
    found, place, source = given.read(model, folder)
    return forecast_graph(Graph(found, place, target=Target.named(target)), source.name)


def build(
    model: File,
    library: str = "tensorrt-rtx",
    *,
    mode: str = "qdq",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    time_limit: float = 600.0,
    memory_limit: int = 8192,
    keep: File | None = None,
) -> Engine:
    """Builds an engine with a real TensorRT, or OpenVINO, in a process of its own.

    Args:
        model: the path of a model.
        library: "tensorrt-rtx" and "openvino" run on any CPU, "tensorrt" and "trtexec" need the GPU.
        mode: "qdq" (INT8 where the file has Q/DQ), "fp16" (no INT8) or "best" (what TensorRT would choose).
        shapes: of dynamic inputs, by name; without one the batch is 1 and images have 320 pixels a side.
        time_limit: seconds; memory_limit: MiB of resident memory.
        keep: a folder in which the log and all exports stay.

    Raises:
        ModelError: the model cannot be read.
        EngineError: TensorRT refuses the model, node by node, or the build failed or passed a limit.
    """
    where = None if keep is None else Path(keep)
    return built(Path(model), library, Build(mode, dict(shapes or {}), Limits(time_limit, memory_limit), where))


def read_engine(layers: File, *, profile: File | None = None, times: File | None = None) -> Engine:
    """An engine that trtexec exported, or that was saved.

    Args:
        layers: what --exportLayerInfo wrote; profile: --exportProfile; times: --exportTimes.

    Raises:
        EngineError: a file cannot be read, or is of another form.
    """
    beside, whole = (None if path is None else Path(path) for path in (profile, times))
    return open_engine(Path(layers), profile=beside, times=whole)


def compare(
    a: Source,
    b: Source,
    *,
    target: str = DEFAULT,
    profile_a: File | None = None,
    profile_b: File | None = None,
) -> Diff:
    """What differs between two engines; `worse` of the result says why b is worse than a.

    Args:
        a, b: engines, or files of them; a model is forecast for `target`.
        profile_a, profile_b: times of the layers, from --exportProfile.

    Raises:
        ModelError, EngineError: a file cannot be read, or is of another form.
    """
    return diff(opened(a, target, profile_a), opened(b, target, profile_b))


def opened(source: Source, target: str = DEFAULT, profile: File | None = None) -> Engine:
    """The engine in a file; of a model its forecast.

    Raises:
        ModelError, EngineError: as `compare`.
    """
    if isinstance(source, Engine):
        return source
    if os.fspath(source).lower().endswith(".onnx"):
        return forecast(source, target)
    return read_engine(source, profile=profile)

"""Functions for engines: forecast, build, read_engine, compare, estimate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ..engines.builders.builder import built
from ..engines.builders.how import Build
from ..engines.builders.limits import Limits
from ..engines.compare.diff import Diff, diff
from ..engines.forecast.forecast import forecast as forecast_graph
from ..engines.layers import NO_ENGINE, Engine
from ..engines.read.saved import open_engine, to_json
from ..engines.timing.device import DEFAULT as DEVICE
from ..engines.timing.device import Device
from ..engines.timing.fit import fitted
from ..engines.timing.roofline import Estimate, Roofline, Shares, default_shares
from ..errors import EngineError, ModelError
from ..graph.graph import Graph
from ..model import kinds
from ..model.recognized import is_json, kind_of
from ..model.writing.outputs import refuse_to_overwrite
from ..model.writing.texts import write_text
from ..repair.options import Options
from ..repair.rounds import examine
from ..rulekit import catalog
from ..rulekit.finding import Severity
from ..rulekit.rule import handled
from ..targets.target import DEFAULT, Target
from . import given
from .call import public
from .given import File, Model

SHOWN = 5
"""Findings in the message for a model that its target refuses."""
Source: TypeAlias = Engine | File
"""An engine, or a file: layer info from trtexec, a saved engine, or an ONNX model to forecast."""


@public(plain=True)
def forecast(
    model: Model,
    target: str = DEFAULT,
    *,
    folder: File | None = None,
    output: File | None = None,
    force: bool = False,
) -> Engine:
    """Returns the kernels that a generation of TensorRT will form, by its documented rules.

    Args:
        model: a model, or its path.
        target: name of the TensorRT generation, such as "trt-10".
        folder: the folder that contains the external data; the folder of the file by default.
        output: a file to save the engine in, for `compare` and `read_engine`.
        force: overwrite it.

    Raises:
        ModelError: the model cannot be read or imported, the target is unknown, or `output` cannot be written.
        EngineError: the target refuses the model, by the built-in and installed rules; the message names the findings.
    """
    _refuse(output, force)
    engine, _, refused = forecast_for(model, target, folder)
    if refused:
        raise EngineError(f"{refused}\n  so there is no engine to forecast: qdqgraph fix repairs what it can")
    return _saved(engine, output, force)


def forecast_for(
    model: Model, target: str, folder: File | None, *, together: bool = False
) -> tuple[Engine, Graph, str]:
    """Returns the forecast of a model, its graph, and why the target refuses the model; "" if it accepts it.
    With `together`, what TensorRT fuses or not by timing is fused.

    Raises:
        ModelError: the model cannot be read or imported, or the target is unknown.
    """
    found, place, source = given.read(model, folder)
    rules = catalog.load()
    with given.named(source):
        graph = Graph.opened(found, place, target=Target.named(target), keeps=handled(rules))
    findings = examine(graph, rules, Options(target=target))
    lines = [f"{f.place}: {f.code} {f.message}" for f in findings if f.severity is Severity.ERROR]
    lines[SHOWN:] = [f"and {len(lines) - SHOWN} more: qdqgraph check lists them"] if len(lines) > SHOWN else []
    refused = "\n  ".join([f"{graph.target.title} refuses {source.name}:", *lines]) if lines else ""
    return forecast_graph(graph, source.name, together=together), graph, refused


@public()
def build(
    model: File,
    library: str = "tensorrt-rtx",
    *,
    mode: str = "qdq",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    time_limit: float = 600.0,
    memory_limit: int = 8192,
    keep: File | None = None,
    output: File | None = None,
    force: bool = False,
) -> Engine:
    """Builds an engine with a real TensorRT, or OpenVINO, in a child process.

    Args:
        model: the path of a model.
        library: "tensorrt-rtx" and "openvino" run on any CPU, "tensorrt" and "trtexec" need a GPU.
        mode: "qdq" (INT8 where the file has Q/DQ), "fp16" (no INT8) or "best" (TensorRT's own choice).
        shapes: the shapes of dynamic inputs, by name; the default is batch 1 and images of 320 x 320 pixels.
        time_limit: in seconds.
        memory_limit: resident memory in MiB.
        keep: the folder for the log and all exports; it must be empty or new.
        output: as `forecast`.
        force: overwrite `output`, and the files of an earlier build in `keep`.

    Raises:
        ModelError: the model cannot be read, `output` cannot be written, or `keep` contains files.
        EngineError: TensorRT refuses the model (the message lists the nodes), or the build failed or exceeded a limit.
    """
    _refuse(output, force)
    where = None if keep is None else Path(keep)
    if where is not None and where.is_dir() and any(where.iterdir()) and not force:
        raise ModelError(f"{where} contains files; use --force (force=True) to overwrite those of an earlier build")
    engine = built(Path(model), library, Build(mode, dict(shapes or {}), Limits(time_limit, memory_limit), where))
    return _saved(engine, output, force)


@public()
def read_engine(
    layers: File,
    *,
    profile: File | None = None,
    times: File | None = None,
    output: File | None = None,
    force: bool = False,
) -> Engine:
    """Reads an engine that trtexec exported, or that was saved.

    Args:
        layers: the file of trtexec --exportLayerInfo, or a saved engine.
        profile: the file of trtexec --exportProfile.
        times: the file of trtexec --exportTimes.
        output, force: as `forecast`.

    Raises:
        ModelError: `output` cannot be written.
        EngineError: a file cannot be read, or has another format.
    """
    layer_times, run_times = (None if path is None else Path(path) for path in (profile, times))
    _refuse(output, force)
    return _saved(open_engine(Path(layers), profile=layer_times, times=run_times), output, force)


def _refuse(output: File | None, force: bool) -> None:
    """Rejects an output that cannot be written, before the work starts."""
    if output is not None:
        refuse_to_overwrite(Path(output), force=force)


def _saved(engine: Engine, output: File | None, force: bool) -> Engine:
    """The engine, which is written to a file if one is named."""
    if output is not None:
        write_text(to_json(engine), Path(output), force=force)
    return engine


@public()
def compare(
    a: Source,
    b: Source,
    *,
    target: str = DEFAULT,
    profile_a: File | None = None,
    profile_b: File | None = None,
) -> Diff:
    """Returns the differences of two engines; `worse` of the result gives the reason if b is worse than a.

    Args:
        a: the first engine or its file; a model is forecast for `target`.
        b: the second engine or its file.
        target: name of the TensorRT generation of the forecasts.
        profile_a: layer times of a, the file of trtexec --exportProfile.
        profile_b: layer times of b.

    Raises:
        ModelError, EngineError: a file cannot be read, or has another format.
    """
    return diff(opened(a, target, profile_a), opened(b, target, profile_b))


def opened(source: Source, target: str = DEFAULT, profile: File | None = None) -> Engine:
    """Returns the engine in a file, or the forecast of a model file; of one that the target refuses, with a note.

    Raises:
        ModelError, EngineError: as `compare`.
    """
    return with_graph(source, target, profile)[0]


def with_graph(
    source: Source, target: str, profile: File | None = None, *, together: bool = False
) -> tuple[Engine, Graph | None]:
    """Returns what `opened` returns, and the graph of a forecast; `together` as in `forecast_for`."""
    if isinstance(source, Engine):
        return source, None
    path = Path(source)
    if not is_json(path) and (path.suffix.lower() == ".onnx" or kind_of(path) is kinds.ONNX):
        engine, graph, refused = forecast_for(source, target, None, together=together)
        note = f"{NO_ENGINE}: {refused}"
        return (replace(engine, notes=(note, *engine.notes)) if refused else engine), graph
    return read_engine(source, profile=profile), None


@public()
def estimate(
    sources: Iterable[Source],
    *,
    device: str = DEVICE,
    target: str = DEFAULT,
    fp16: bool = False,
    measured: tuple[File, File] | None = None,
) -> tuple[Estimate, ...]:
    """Returns estimated times of engines on a device, fastest first. They rank engines of one network; they do not
    predict times.

    Args:
        sources: engines, or their files; models are forecast for `target`, and what TensorRT fuses or not by timing is
            fused: it takes what is faster.
        device: name of a device, such as "a100".
        target: name of the TensorRT generation of the forecasts.
        fp16: FP32 kernels and tensors count as FP16, as in an engine that is built with --fp16.
        measured: layer info and layer times of an engine on this device, as trtexec exports them: its kernels show what
            share of the datasheet's figures the device reaches, in place of published engines.

    Raises:
        ModelError, EngineError: a file cannot be read, or has another format; the device is unknown; or `measured` has
            too few layer times.
    """
    gpu = Device.named(device)
    roofline, floats = Roofline(gpu, shares_of(gpu, measured)), "FP16" if fp16 else ""
    opened_all = [with_graph(source, target, together=True) for source in sources]
    return tuple(sorted((roofline.estimate(*found, floats) for found in opened_all), key=lambda e: e.ms))


def shares_of(device: Device, measured: tuple[File, File] | None) -> Shares:
    """What kernels reach of a device's datasheet: by an engine that was measured on it, else by published engines.

    Raises:
        EngineError: as `estimate`.
    """
    if measured is None:
        return default_shares()
    own = read_engine(measured[0], profile=measured[1])
    return fitted([(own, device)], f"{own.name} on this device")

"""Builds the engine of a file, times it, compares its outputs with ONNX Runtime and its kernels with the forecast.

The result of each step is a file in NET/VARIANT.engine, so an interrupted run continues.
"""

from __future__ import annotations

import json
import re
import statistics
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path

import qdqgraph
from qdqgraph.engines.compare.match import KernelGroup
from qdqgraph.engines.layers import Engine
from qdqgraph.engines.read.layer_info import WEIGHTED
from qdqgraph.engines.read.saved import open_engine, to_json
from qdqgraph.errors import EngineError, QdqgraphError

from .outputs import NO_GPU, UncheckedError, compared

TARGETS = {"8": "trt-8.6", "10": "trt-10", "11": "trt-11"}
"""The target of the forecast, by the major version of TensorRT."""


@dataclass(frozen=True)
class Result:
    """What is known of one file on this machine.

    Attributes:
        built: the engine's source, or "" if there is none.
        failed: why there is no engine.
        layers: kernels.
        reformats: of these, copies and conversions.
        bytes: bytes of activations read and written.
        runs: number of timed runs.
        median_ms: median GPU time of a run.
        spread_ms: 10th and 90th percentile of it.
        untimed: why there are no times.
        sqnr_db: of the outputs against ONNX Runtime on the same file; infinite if they are equal.
        unchecked: why they were not compared.
        same: kernels with the same nodes as in the forecast; in TensorRT-RTX's build also with a separate epilogue.
        predicted: kernels of the forecast, without reformats.
        quantizers: reformats by Q and DQ in the engine, and in the forecast.
        misses: what the engine does differently, the largest cost first.
    """

    built: str = ""
    failed: str = ""
    layers: int = 0
    reformats: int = 0
    bytes: int = 0
    runs: int = 0
    median_ms: float | None = None
    spread_ms: tuple[float, float] | None = None
    untimed: str = ""
    sqnr_db: float | None = None
    unchecked: str = ""
    same: int = 0
    predicted: int = 0
    quantizers: tuple[int, int] = (0, 0)
    misses: tuple[str, ...] = ()


def measured(model: Path, library: str) -> Result:
    """Returns the result for a file; reads it if an earlier run wrote it.

    Args:
        model: the file NET/VARIANT.onnx.
        library: a builder of `qdqgraph engine build`.
    """
    folder = model.with_suffix(".engine")
    done = folder / "result.json"
    if done.exists():
        fields = json.loads(done.read_text(encoding="utf-8"))
        lists = {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}
        return Result(**{**fields, **lists})
    folder.mkdir(exist_ok=True)
    try:
        found = _measured(model, library, folder)
    except Exception as error:  # noqa: BLE001, any failure is recorded, and the other files are measured
        found = Result(failed=_reason(error))
    part = done.with_suffix(".part")
    part.write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
    part.replace(done)
    return found


def _reason(error: Exception) -> str:
    said = textwrap.shorten((str(error).splitlines() or [""])[0], 300, placeholder=" …")
    return said if isinstance(error, QdqgraphError | UncheckedError) else f"{type(error).__name__}: {said}"


def _measured(model: Path, library: str, folder: Path) -> Result:
    engine = _engine(model, library, folder)
    predicted = qdqgraph.forecast(model, target(engine.source))
    found = qdqgraph.compare(predicted, engine)
    ours, real = found.totals
    runs = _runs(folder / "times.json")
    timed = statistics.quantiles(runs, n=10) if len(runs) > 1 else None
    try:
        sqnr, unchecked = compared(model, library, folder), ""
    except Exception as error:  # noqa: BLE001, the times remain
        sqnr, unchecked = None, _reason(error)
    epilogues = library == "tensorrt-rtx"
    other = [g for g in found.fused_differently if not (epilogues and _with_epilogue(g))]
    misses = [f"fused differently: {', '.join(x.name for x in g.b)}"[:200] for g in other]
    misses += [f"{title}: [{x.cause or x.kind}] {x.name}"[:200] for title, layers in (
        ("new", found.reformats_added),
        ("missing", found.reformats_removed),
        ("only in the engine", found.only_b),
        ("only forecast", found.only_a),
    ) for x in layers]  # fmt: skip
    return Result(
        built=engine.source,
        layers=real.kernels,
        reformats=real.reformats,
        bytes=real.bytes,
        runs=len(runs),
        median_ms=statistics.median(runs) if runs else None,
        spread_ms=(timed[0], timed[-1]) if timed else None,
        untimed="" if runs else NO_GPU if library == "tensorrt-rtx" else "; ".join(engine.notes)[:200],
        sqnr_db=sqnr,
        unchecked=unchecked,
        same=found.same + len(found.fused_differently) - len(other),
        predicted=ours.kernels - ours.reformats,
        quantizers=(real.quantizers, ours.quantizers),
        misses=tuple(misses),
    )


def _with_epilogue(group: KernelGroup) -> bool:
    """Whether the engine has the forecast kernel as a weighted layer and kernels that read it: in TensorRT-RTX's CPU
    build a convolution always writes float, and the next kernel does the rest."""
    weighted = [layer for layer in group.b if layer.kind in WEIGHTED]
    written = {t.name for layer in weighted for t in layer.outputs}
    rest = [layer for layer in group.b if layer.kind not in WEIGHTED]
    return len(group.a) == len(weighted) == 1 and all(any(t.name in written for t in x.inputs) for x in rest)


def _engine(model: Path, library: str, folder: Path) -> Engine:
    """Builds the engine; an FP16 file without Q/DQ has another mode before TensorRT 11."""
    saved = folder / "engine.json"
    if saved.exists():
        return open_engine(saved)
    modes = ("fp16", "qdq") if model.stem == "fp16" and library != "tensorrt-rtx" else ("qdq",)
    for mode in modes:
        try:
            engine = qdqgraph.build(model, library, mode=mode, keep=folder, force=True, time_limit=1800)
            break
        except EngineError as error:
            if mode == modes[-1] or "uses the types of the file" not in str(error):
                raise
    saved.write_text(to_json(engine), encoding="utf-8")
    return engine


def target(source: str) -> str:
    """Returns the target that forecasts an engine, from its source: "trtexec 8.6 --mode qdq", "TensorRT 10.9.0"."""
    if source.startswith("TensorRT-RTX"):
        return "trt-rtx"
    found = re.search(r"\d+", source)
    return TARGETS.get(found[0] if found else "", "trt-10")


def _runs(times: Path) -> list[float]:
    """Returns the GPU times of the runs in milliseconds; empty if none were measured."""
    if not times.is_file():
        return []
    return [float(row["computeMs"]) for row in json.loads(times.read_text(encoding="utf-8"))]

"""Compiles a model with OpenVINO and runs it in a child process: `python -m … JOB.json`, as `tensorrt_child`."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

WARM, SECONDS, MOST = 3, 2.0, 100


def build(job: dict[str, Any]) -> dict[str, Any]:
    """Compiles the model and runs it on seeded noise; returns the result for `result.json`: layers and times in ms."""
    import numpy as np
    import openvino as ov

    core = ov.Core()
    model = core.read_model(job["model"])
    if job["shapes"]:
        model.reshape(dict(job["shapes"].items()))
    settings = {"PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", settings)
    random = np.random.default_rng(0)
    feeds = {}
    for source in compiled.inputs:
        shape, kind = tuple(source.shape), source.element_type.to_dtype()
        noise = random.standard_normal(shape) if np.dtype(kind).kind == "f" else np.ones(shape)
        feeds[source.any_name] = noise.astype(kind)
    request = compiled.create_infer_request()
    spent: list[float] = []
    begin = time.perf_counter()
    while len(spent) < WARM + MOST and (len(spent) < WARM + 5 or time.perf_counter() - begin < SECONDS):
        start = time.perf_counter()
        request.infer(feeds)
        spent.append((time.perf_counter() - start) * 1000)
    counted = core.compile_model(model, "CPU", {**settings, "PERF_COUNT": True})
    again = counted.create_infer_request()
    for _ in range(WARM):
        again.infer(feeds)
    return {
        "version": ov.__version__.split("-")[0],
        "device": str(core.get_property("CPU", "FULL_DEVICE_NAME")),
        "runs": len(spent) - WARM,
        "median_ms": statistics.median(spent[WARM:]),
        "layers": [_layer(op) for op in counted.get_runtime_model().get_ordered_ops()],
    }


def _layer(op: Any) -> dict[str, Any]:
    """Returns one node of the runtime model as JSON; its runtime info is a map of strings."""
    info = {name: str(value.value) for name, value in op.get_rt_info().items()}
    kinds = info.get("outputPrecisions", "").split(",")
    spent = info.get("execTimeMcs", "")
    return {
        "name": op.get_friendly_name(),
        "kind": info.get("layerType", op.get_type_name()),
        "nodes": info.get("originalLayersNames", "").split(","),
        "precision": info.get("runtimePrecision", "?"),
        "tactic": info.get("primitiveType", ""),
        "ms": float(spent) / 1000 if spent.replace(".", "", 1).isdigit() else None,
        "inputs": [_tensor(p.get_source_output(), "") for p in op.inputs() if _moves(p.get_source_output())],
        "outputs": [_tensor(o, kinds[i] if i < len(kinds) else "") for i, o in enumerate(op.outputs())],
    }


def _moves(source: Any) -> bool:
    return str(source.get_node().get_rt_info()["layerType"].value) not in ("Const", "Constant")


def _tensor(output: Any, kind: str) -> tuple[str, list[int], str]:
    node = output.get_node()
    if not kind:
        kinds = str(node.get_rt_info()["outputPrecisions"].value).split(",")
        kind = kinds[min(output.get_index(), len(kinds) - 1)]
    shape = output.get_partial_shape()
    dims = [int(d) for d in shape.to_shape()] if shape.is_static else [-1]
    return f"{node.get_friendly_name()}:{output.get_index()}", dims, kind


def main() -> None:
    """Reads the job, builds, writes the result."""
    job = Path(sys.argv[1])
    result = build(json.loads(job.read_text(encoding="utf-8")))
    (job.parent / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()

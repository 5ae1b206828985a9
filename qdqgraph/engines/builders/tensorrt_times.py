"""Runs an engine on the GPU and measures its layers, in the process that built it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from .tensorrt_memory import allocated, library

WARM, RUNS = 50, 200


def measure(trt: Any, engine: Any, context: Any, folder: Path) -> str:
    """Writes `profile.json` and `times.json` in trtexec's format, times in ms; returns why it cannot, or "".

    TensorRT's profiler needs inputs and outputs in GPU memory; they are zeros.
    """
    cuda = library()
    if cuda is None:
        return "the CUDA runtime library was not found, so layers have no times"
    try:
        with allocated(trt, engine, context, cuda):
            return _run(trt, context, cuda, folder)
    except MemoryError as error:
        return f"{error}, so layers have no times"


def _run(trt: Any, context: Any, cuda: Any, folder: Path) -> str:
    spent: dict[str, list[float]] = defaultdict(list)

    class Profiler(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            spent[layer_name].append(ms)

    def once() -> float:
        start = time.perf_counter()
        context.execute_async_v3(0)
        cuda.cudaDeviceSynchronize()
        return (time.perf_counter() - start) * 1000

    if error := cuda.cudaDeviceSynchronize():
        return f"the CUDA runtime reports error {error}, so layers have no times"
    runs = [once() for _ in range(WARM + RUNS)][WARM:]
    context.profiler = Profiler()
    for _ in range(RUNS):
        once()
    if not spent:
        return "TensorRT's profiler reported no layer, so layers have no times"
    rows = [{"name": name, "averageMs": sum(times) / RUNS} for name, times in spent.items()]
    (folder / "profile.json").write_text(json.dumps([{"count": RUNS}, *rows]), encoding="utf-8")
    (folder / "times.json").write_text(json.dumps([{"computeMs": t, "latencyMs": t} for t in runs]), encoding="utf-8")
    return ""

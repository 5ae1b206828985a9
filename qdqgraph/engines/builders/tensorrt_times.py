"""Runs an engine on the GPU and measures its layers, in the process that built it.

TensorRT's profiler needs inputs and outputs in GPU memory. They are allocated through ctypes with the CUDA runtime that
comes with TensorRT, so no other package is needed.
"""

from __future__ import annotations

import ctypes
import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

LIBRARIES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
WARM, RUNS = 50, 200


def measure(trt: Any, engine: Any, context: Any, folder: Path) -> str:
    """Writes `profile.json` and `times.json` in trtexec's format, times in ms; returns why it cannot, or ""."""
    cuda = _library()
    if cuda is None:
        return "the CUDA runtime library was not found, so layers have no times"
    memory: list[ctypes.c_void_p] = []
    try:
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT and -1 in tuple(engine.get_tensor_shape(name)):
                context.set_input_shape(name, engine.get_tensor_profile_shape(name, 0)[1])
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            count = math.prod(max(1, int(d)) for d in context.get_tensor_shape(name))
            place = ctypes.c_void_p()
            size = max(1, int(count * engine.get_tensor_dtype(name).itemsize))
            if cuda.cudaMalloc(ctypes.byref(place), ctypes.c_size_t(size)):
                return f"the GPU cannot allocate {size:,} bytes for '{name}', so layers have no times"
            memory.append(place)
            cuda.cudaMemset(place, 0, ctypes.c_size_t(size))
            context.set_tensor_address(name, place.value)
        return _run(trt, context, cuda, folder)
    finally:
        for place in memory:
            cuda.cudaFree(place)


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


def _library() -> Any:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None

"""Runs an engine on given inputs with the package tensorrt: `python -m benchmarks.gpu.tensorrt_outputs FOLDER`.

It reads FOLDER/model.engine and FOLDER/inputs.npz, and writes FOLDER/outputs.npz.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qdqgraph.engines.builders.tensorrt_memory import allocated, library

TO_DEVICE, TO_HOST = 1, 2
"""The kinds of cudaMemcpy."""


def outputs(trt: Any, engine: Any, cuda: Any, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs of an engine, by name.

    Args:
        trt: the module tensorrt.
        engine: the engine.
        cuda: the CUDA runtime library.
        feeds: an array for each input, which is converted to the type of the engine's input.

    Raises:
        RuntimeError: an input is missing or has another size, or CUDA or TensorRT report an error.
        MemoryError: the GPU cannot allocate a tensor.
    """
    context = engine.create_execution_context()
    shapes = {name: array.shape for name, array in feeds.items()}
    with allocated(trt, engine, context, cuda, shapes) as buffers:
        types = {name: np.dtype(trt.nptype(engine.get_tensor_dtype(name))) for name in buffers}
        for name, buffer in buffers.items():
            if buffer.reads:
                if name not in feeds:
                    raise RuntimeError(f"the sample has no array for the input '{name}'")
                array = np.ascontiguousarray(feeds[name], types[name])
                if array.nbytes != buffer.size:
                    raise RuntimeError(
                        f"the input '{name}' has {buffer.size:,} bytes in the engine, {array.nbytes:,} in the sample"
                    )
                _copy(cuda, buffer.place, array.ctypes.data, array.nbytes, TO_DEVICE)
        if not context.execute_async_v3(0):
            raise RuntimeError("TensorRT could not start the engine")
        if error := cuda.cudaDeviceSynchronize():
            raise RuntimeError(f"the CUDA runtime reports error {error} after the run")
        found = {name: np.empty(b.dims, types[name]) for name, b in buffers.items() if not b.reads}
        for name, array in found.items():
            _copy(cuda, array.ctypes.data, buffers[name].place, array.nbytes, TO_HOST)
        return found


def _copy(cuda: Any, to: Any, source: Any, count: int, kind: int) -> None:
    ends = (end if isinstance(end, ctypes.c_void_p) else ctypes.c_void_p(end) for end in (to, source))
    if error := cuda.cudaMemcpy(*ends, ctypes.c_size_t(count), kind):
        raise RuntimeError(f"the CUDA runtime reports error {error} for a copy of {count:,} bytes")


def main(folder: Path) -> None:
    """Runs the engine of a folder.

    Raises:
        SystemExit: it cannot run; the message says why.
    """
    trt, cuda = importlib.import_module("tensorrt"), library()
    if cuda is None:
        raise SystemExit("the CUDA runtime library was not found")
    log = trt.Logger(trt.Logger.ERROR)
    engine = trt.Runtime(log).deserialize_cuda_engine((folder / "model.engine").read_bytes())
    if engine is None:
        raise SystemExit("the engine cannot be loaded here")
    with np.load(folder / "inputs.npz") as arrays:
        feeds = {name: arrays[name] for name in arrays.files}
    try:
        found = outputs(trt, engine, cuda, feeds)
    except (RuntimeError, MemoryError) as error:
        raise SystemExit(str(error)) from error
    np.savez(folder / "outputs.npz", allow_pickle=False, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

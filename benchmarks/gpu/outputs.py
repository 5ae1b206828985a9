"""Runs an engine on one sample, with trtexec or the package tensorrt, and compares its outputs with ONNX Runtime's."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from qdqgraph.engines.builders.child import isolated
from qdqgraph.model.runtime import run

from .files import CHECK

NO_GPU = "TensorRT-RTX's CPU build runs nothing"
INPUTS, OUTPUTS = "inputs.npz", "outputs.npz"
"""The sample that the engine got, and what it returned, in its folder."""
LIMIT = 600
"""Seconds for a run, the start of the process included."""


class UncheckedError(Exception):
    """The outputs were not compared; the message says why."""


def compared(model: Path, library: str, folder: Path) -> float:
    """Returns the SQNR in dB of the engine's outputs on one sample against ONNX Runtime; infinite if they are equal.

    Args:
        model: the file NET/VARIANT.onnx; the sample is in NET/check.
        library: a builder of `qdqgraph engine build`.
        folder: the folder with model.engine.

    Raises:
        UncheckedError: nothing ran, or no output can be compared.
    """
    if library == "tensorrt-rtx":
        raise UncheckedError(NO_GPU)
    samples = sorted((model.parent / CHECK).glob("*.npz"))
    if not samples:
        raise UncheckedError(f"no sample in {model.parent / CHECK}")
    graph = onnx.load(model)
    types = {i.name: onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in graph.graph.input}
    with np.load(samples[0]) as arrays:
        feeds = {name: np.asarray(arrays[name]) for name in arrays.files}
    feeds = {name: array.astype(types.get(name, array.dtype)) for name, array in feeds.items()}
    real = _by_trtexec(graph, folder, feeds) if library == "trtexec" else _by_package(folder, feeds)
    expected = dict(zip([o.name for o in graph.graph.output], run(graph, [feeds], model.parent)[0], strict=True))
    return sqnr(expected, real)


def sqnr(expected: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray]) -> float:
    """Returns the SQNR in dB of all outputs that both have together.

    Raises:
        UncheckedError: there is none, or all expected values are zero.
    """
    noise = signal = 0.0
    for name, values in expected.items():
        if name in real and real[name].size == np.size(values):
            reference = np.asarray(values, np.float64).ravel()
            other = np.asarray(real[name], np.float64).ravel()
            signal, noise = signal + float(reference @ reference), noise + float(np.sum((reference - other) ** 2))
    if not signal:
        raise UncheckedError("no output of the engine has a counterpart in ONNX Runtime")
    return math.inf if not noise else 10 * math.log10(signal / noise)


def _by_trtexec(graph: onnx.ModelProto, folder: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by trtexec, which writes six digits."""
    program = shutil.which("trtexec")
    if program is None:
        raise UncheckedError("trtexec is not on the PATH")
    for name, array in feeds.items():
        array.tofile(folder / f"{name.replace('/', '_')}.bin")
    given = ",".join(f"{name}:{folder / (name.replace('/', '_') + '.bin')}" for name in feeds)
    outputs = folder / "outputs.json"
    shapes = [f"{name}:{'x'.join(map(str, feeds[name].shape))}" for name in _dynamic(graph) if name in feeds]
    command = [program, f"--loadEngine={folder / 'model.engine'}", f"--loadInputs={given}", "--warmUp=0"]
    command += ["--duration=0", "--iterations=1", f"--exportOutput={outputs}"]
    command += [f"--shapes={','.join(shapes)}"] if shapes else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode or not outputs.is_file():
        raise UncheckedError(f"trtexec could not run the engine: exit code {done.returncode}")
    rows = json.loads(outputs.read_text(encoding="utf-8"))
    return {row["name"]: np.asarray(row["values"], np.float64) for row in rows}


def _by_package(folder: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by the package tensorrt, in a process of its own."""
    np.savez(folder / INPUTS, allow_pickle=False, **feeds)
    (folder / OUTPUTS).unlink(missing_ok=True)
    command = isolated("benchmarks.gpu.tensorrt_outputs", str(folder))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode or not (folder / OUTPUTS).is_file():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UncheckedError(f"tensorrt could not run the engine: {last}")
    with np.load(folder / OUTPUTS) as arrays:
        return {name: np.asarray(arrays[name]) for name in arrays.files}


def _dynamic(model: onnx.ModelProto) -> list[str]:
    """The inputs with a dimension that the file leaves open."""
    return [i.name for i in model.graph.input if any(d.dim_value < 1 for d in i.type.tensor_type.shape.dim)]

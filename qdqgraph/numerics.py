"""Numbers: what a repair does to the outputs, run in ONNX Runtime with graph optimizations off.

Off, because onnxruntime's own Q/DQ fusions shift last bits (https://github.com/microsoft/onnxruntime/issues/32132).
onnxruntime is imported only when a check runs; `import qdqgraph` does not need it.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from . import shapes
from .errors import ModelError
from .graph import Graph
from .pair import INT8_BOUND, pairs
from .protos import version
from .rounding import rounded

Feed = dict[str, np.ndarray]
UNKNOWN = 224
"""Stands for an unknown spatial dimension of an image; divisible by 32, which detectors need."""
INFINITE, NOTHING = "qdqgraph_infinite", "qdqgraph_nothing"
"""Names of constants in the graph that measures ranges."""
REAL = (TensorProto.FLOAT, TensorProto.FLOAT16)
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Agreement:
    """How two models agree on one output over all samples.

    Attributes:
        sqnr: signal to quantization-noise ratio in dB, 10·log10(Σ ref² / Σ (ref − new)²); inf where equal, nan where
            the reference is not finite.
        identical: equal bit for bit, NaN included.
    """

    sqnr: float
    identical: bool


def available() -> bool:
    """Whether onnxruntime is installed."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


def provider(wanted: str) -> tuple[str, str]:
    """The execution provider to use for "cpu" or "cuda", and a sentence where it is a fallback, else ""."""
    import onnxruntime as ort

    if PROVIDERS[wanted] in ort.get_available_providers():
        return PROVIDERS[wanted], ""
    return PROVIDERS["cpu"], f"onnxruntime offers no {PROVIDERS[wanted]} here; the numeric check ran on the CPU"


def noise(model: onnx.ModelProto, samples: int = 1, seed: int = 0) -> list[Feed]:
    """Seeded uniform noise for every input, as wide as the range of the input's quantizer, else [-1, 1].

    Unknown dimensions: 1 for the first, 224 for those of images, else 16.

    Raises:
        ModelError: an input is no tensor of numbers.
    """
    random = np.random.default_rng(seed)
    graph = Graph(model)
    return [{i.name: _sample(graph, i, random) for i in _inputs(model)} for _ in range(samples)]


def load(path: Path, model: onnx.ModelProto) -> list[Feed]:
    """Samples from an .npz file: one array an input, by name; the leading axis counts samples where it is longer
    than the model's batch.

    Raises:
        ModelError: the file is unreadable, or does not fit the model's inputs.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise ModelError(f"{path}: no .npz file of input arrays ({error})") from error
    inputs = {i.name: i for i in _inputs(model)}
    if set(inputs) - set(arrays):
        raise ModelError(f"{path}: holds {sorted(arrays)}, the model's inputs are {sorted(inputs)}")
    batch = {name: _dims(i)[:1] for name, i in inputs.items()}
    sizes = {name: (batch[name][0] or 1) if batch[name] else 1 for name in inputs}
    counts = {max(1, len(arrays[n]) // sizes[n]) if batch[n] and arrays[n].ndim else 1 for n in inputs}
    if len(counts) > 1:
        raise ModelError(f"{path}: the arrays hold different numbers of samples: {sorted(counts)}")
    count = counts.pop() if counts else 1
    feeds = []
    for k in range(count):
        whole = {n: arrays[n] if not batch[n] else arrays[n][k * sizes[n] : (k + 1) * sizes[n]] for n in inputs}
        feeds.append({n: a.astype(_numpy_type(inputs[n]), copy=False) for n, a in whole.items()})
    return feeds


def run(
    model: onnx.ModelProto, feeds: Sequence[Mapping[str, np.ndarray]], folder: Path, provider: str = PROVIDERS["cpu"]
) -> list[list[Any]]:
    """The model's outputs for each sample; on the CPU FP16 is rounded as a GPU would (`rounding`).

    Floating-point samples are given in the model's own types, FP32 or FP16.

    Raises:
        ModelError: onnxruntime cannot load or run the model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    try:
        stored = rounded(model) if provider == PROVIDERS["cpu"] else model
        session = ort.InferenceSession(stored.SerializeToString(), options, providers=[provider])
        return [session.run(None, _cast(model, feed)) for feed in feeds]
    except Exception as error:  # onnxruntime's own exceptions derive from Exception alone
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"onnxruntime cannot run the model: {reason[0][:300]}") from error


def _cast(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> Feed:
    types = {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
    real = {name: helper.tensor_dtype_to_np_dtype(kind) for name, kind in types.items() if kind in REAL}
    return {n: a.astype(real[n], copy=False) if n in real and a.dtype.kind == "f" else a for n, a in feed.items()}


def ranges(model: onnx.ModelProto, feeds: Sequence[Mapping[str, np.ndarray]], folder: Path) -> dict[str, float]:
    """The largest finite magnitude that each FP32 tensor reaches on the samples; subgraphs are left out.

    Infinities are infinities in any floating-point type: a mask, what a MaxPool's padding holds. Operator sets before 9
    cannot tell them apart from numbers.

    Raises:
        ModelError: onnxruntime cannot load or run the model.
    """
    known = shapes.infer(model)
    made = (name for node in model.graph.node if node.op_type != "Constant" for name in node.output)
    read = [i.name for i in _inputs(model)]
    names = [n for n in (*read, *made) if n in known and known[n][0] == onnx.TensorProto.FLOAT]
    if not names:
        return {}
    widened = onnx.ModelProto()
    widened.CopyFrom(model)
    del widened.graph.output[:]
    finite = version(model) >= 9
    for constant, value in ((INFINITE, math.inf), (NOTHING, 0.0)) if finite else ():
        widened.graph.node.append(onnx.helper.make_node("Constant", [], [constant], value=_scalar(value)))
    # Reduced in the graph: a detector's tensors together would fill the memory.
    for index, name in enumerate(names):
        size, amax = f"qdqgraph_size_{index}", f"qdqgraph_amax_{index}"
        widened.graph.node.append(onnx.helper.make_node("Abs", [name], [size]))
        if finite:
            inside, kept = f"qdqgraph_inside_{index}", f"qdqgraph_kept_{index}"
            widened.graph.node.append(onnx.helper.make_node("Less", [size, INFINITE], [inside]))
            widened.graph.node.append(onnx.helper.make_node("Where", [inside, size, NOTHING], [kept]))
            size = kept
        widened.graph.node.append(onnx.helper.make_node("ReduceMax", [size], [amax], keepdims=0))
        widened.graph.output.append(onnx.helper.make_tensor_value_info(amax, onnx.TensorProto.FLOAT, []))
    found = np.asarray(run(widened, feeds, folder), np.float64).reshape(len(feeds), len(names))
    return dict(zip(names, np.nan_to_num(found, nan=math.inf).max(axis=0, initial=0).tolist(), strict=True))


def _scalar(value: float) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array(value, np.float32))


def compare(
    reference: onnx.ModelProto,
    model: onnx.ModelProto,
    feeds: Sequence[Mapping[str, np.ndarray]],
    folder: Path,
    provider: str = PROVIDERS["cpu"],
) -> dict[str, Agreement]:
    """How `model` agrees with `reference` on each output.

    Raises:
        ModelError: one of the two does not run.
    """
    ours, theirs = (run(m, feeds, folder, provider) for m in (reference, model))
    names = [o.name for o in reference.graph.output]
    return {n: agreement([o[i] for o in ours], [o[i] for o in theirs]) for i, n in enumerate(names)}


def agreement(reference: Sequence[Any], found: Sequence[Any]) -> Agreement:
    """How the samples of one output agree; outputs that are no arrays are compared for equality
    only. FP16 is compared with FP32 by value."""
    identical, signal, error = True, 0.0, 0.0
    for a, b in zip(reference, found, strict=True):
        x, y = np.asarray(a), np.asarray(b)
        if x.shape != y.shape or (x.dtype != y.dtype and (x.dtype.kind, y.dtype.kind) != ("f", "f")):
            return Agreement(-math.inf, False)
        identical = identical and x.dtype == y.dtype and x.tobytes() == y.tobytes()
        if x.dtype.kind in "fiub":
            wide = x.astype(np.float64)
            signal += float(np.sum(wide**2))
            error += float(np.sum((wide - y.astype(np.float64)) ** 2))
    if identical:
        return Agreement(math.inf, True)
    if not math.isfinite(signal) or not math.isfinite(error):
        return Agreement(math.nan, False)
    if error == 0:
        return Agreement(math.inf, False)
    return Agreement(10 * math.log10(signal / error) if signal else -math.inf, False)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constant = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in constant]


def _dims(info: onnx.ValueInfoProto) -> list[int | None]:
    return [d.dim_value if d.dim_value > 0 else None for d in info.type.tensor_type.shape.dim]


def _numpy_type(info: onnx.ValueInfoProto) -> np.dtype[Any]:
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
    except KeyError as error:
        raise ModelError(f"input {info.name!r} is no tensor of numbers; give inputs with --data") from error


def _sample(graph: Graph, info: onnx.ValueInfoProto, random: np.random.Generator) -> np.ndarray:
    dims, dtype = _dims(info), _numpy_type(info)
    shape = [d or (1 if i == 0 else UNKNOWN if len(dims) == 4 else 16) for i, d in enumerate(dims)]
    if len(dims) == 4 and dims[1] is None and dims[0] is None:
        shape[1] = 3
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return random.integers(0, 2, shape).astype(dtype)
    scales = [p.value for p in pairs(graph).at(info.name)]
    return (random.uniform(-1, 1, shape) * (max(scales) * INT8_BOUND if scales else 1)).astype(dtype)

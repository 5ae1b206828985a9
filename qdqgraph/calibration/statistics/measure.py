"""`measure`: runs a float network on samples and counts the values of its sites."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import helper

from ...errors import CalibrationError, ModelError, first_line
from ...model import runtime, shapes
from ...model.protos import element_types
from ...model.rounding import rounded
from ..data.samples import Samples
from .counting import Counter
from .floating import FloatModel
from .segments import Segment, segments
from .sites import REAL, reshaped, sites_of
from .statistics import Statistics

DEFAULT_MEMORY = 2 << 30
"""Bytes: the peak of the process while it measures."""
SPARE = 0.75
"""The share of the free memory that tensors may take; the allocators need the rest."""
FIXED = 96 << 20
"""Bytes for ONNX Runtime and its kernels' buffers."""


def measure(
    network: FloatModel,
    data: Samples,
    sites: Sequence[str] | None = None,
    *,
    memory: int = DEFAULT_MEMORY,
    provider: str = "cpu",
    progress: Callable[[str], None] = lambda message: None,
) -> Statistics:
    """Ranges and histograms of sites, sample by sample.

    Args:
        network: the network without quantization.
        data: the samples.
        sites: the tensors to measure, of type FP32 or FP16; those of `sites_of` by default.
        memory: the limit for the peak resident memory of the process, in bytes; independent of the number of samples.
        provider: "cpu" or "cuda".
        progress: called with one line before each sample.

    Raises:
        ModelError: the network cannot run, a sample does not fit it, there are none, onnxruntime is missing, or one
            node alone needs more memory.
        CalibrationError: a site is not a tensor of the network.
    """
    names = sites_of(network) if sites is None else tuple(dict.fromkeys(sites))
    same = reshaped(network)
    counters = {same.get(name, name): Counter() for name in names}
    observe(network, data, counters, memory=memory, provider=provider, progress=progress)
    found = {name: counter.spread() for name, counter in counters.items()}
    spreads = {name: found[same.get(name, name)] for name in names}
    return Statistics(spreads, network.digest, data.digest, len(data), data.description)


class Observer(Protocol):
    """Takes the values of one tensor."""

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps."""

    def add(self, array: np.ndarray) -> None:
        """Takes the values of the next sample."""


def observe(
    network: FloatModel,
    data: Samples,
    observers: Mapping[str, Observer],
    *,
    memory: int = DEFAULT_MEMORY,
    provider: str = "cpu",
    progress: Callable[[str], None] = lambda message: None,
    what: str = "measuring",
) -> None:
    """Runs a network on samples and gives the values of tensors to their observers, sample by sample.

    Args:
        network: the network without quantization.
        data: the samples.
        observers: what takes the values of each tensor, by its name.
        memory, provider: as `measure`.
        progress: called with one line before each sample, which begins with `what`.
        what: what is done, for `progress`.

    Raises:
        ModelError, CalibrationError: as `measure`.
    """
    if not runtime.available():
        raise ModelError("onnxruntime is not installed, and measuring runs the network: install qdqgraph[ort]")
    running = _Running(network, observers, memory, runtime.provider(provider)[0])
    total = f" of {data.expected}" if data.expected else ""
    for index, feed in enumerate(data, 1):
        progress(f"{what} sample {index}{total}")
        running.add(feed)


class _Running:
    """The sessions of a network's segments; they are made again for a sample larger than those before."""

    def __init__(self, network: FloatModel, observers: Mapping[str, Observer], memory: int, provider: str) -> None:
        self.network, self.observers, self.memory, self.provider = network, observers, memory, provider
        self.model = rounded(network.model) if provider == runtime.PROVIDERS["cpu"] else network.model
        self.types = element_types(self.model)
        self.given = [i.name for i in self.model.graph.input]
        unknown = [n for n in observers if n not in self.types]
        if unknown:
            raise CalibrationError(f"the network has no tensor {unknown[0]!r} of known type to measure")
        self.sessions: list[tuple[Segment, Any]] = []
        self.planned: dict[str, tuple[int, ...]] = {}

    def add(self, feed: Mapping[str, np.ndarray]) -> None:
        """Takes one sample."""
        import onnxruntime as ort

        shaped = {name: feed[name].shape for name in self.given}
        if not self._fits(shaped):
            self._plan(feed)
        values = {name: np.ascontiguousarray(feed[name]) for name in self.given}
        for name in self.given:
            self._observe(name, feed[name])
        for segment, session in self.sessions:
            try:
                given = {name: ort.OrtValue.ortvalue_from_numpy(values[name]) for name in segment.inputs}
                made = session.run_with_ort_values(list(segment.outputs), given)
            except Exception as error:  # onnxruntime's own exceptions derive directly from Exception
                raise ModelError(f"onnxruntime cannot run the network: {first_line(error)}") from error
            # Each OrtValue of a result keeps all of them in memory; an array keeps only its own.
            values.update({name: _shared(value) for name, value in zip(segment.outputs, made, strict=True)})
            del made, given
            for name in segment.outputs:
                self._observe(name, values[name])
                if name in segment.last:
                    del values[name]
            for name in segment.last.intersection(segment.inputs):
                del values[name]

    def _observe(self, name: str, array: np.ndarray) -> None:
        if name in self.observers:
            self.observers[name].add(array)

    def _fits(self, shaped: Mapping[str, tuple[int, ...]]) -> bool:
        planned = self.planned
        return bool(planned) and all(
            len(shape) == len(planned[n]) and all(a <= b for a, b in zip(shape, planned[n], strict=True))
            for n, shape in shaped.items()
        )

    def _plan(self, feed: Mapping[str, np.ndarray]) -> None:
        """Cuts the network for samples of this size and loads the segments."""
        self.sessions.clear()
        self.planned = {name: feed[name].shape for name in self.given}
        sizes = self._sizes(feed)
        parts = segments(self.model, self.observers, sizes, self.types, self._budget(feed))
        self.sessions = [(part, self._session(part.model)) for part in parts]

    def _budget(self, feed: Mapping[str, np.ndarray]) -> int:
        """Bytes left for tensors."""
        import onnxruntime  # noqa: F401 - its own memory counts
        import psutil

        weights = sum(_bytes(tuple(t.dims), t.data_type) for t in self.model.graph.initializer)
        kept = sum(observer.nbytes for observer in self.observers.values())
        used = psutil.Process().memory_info().rss + 2 * weights + kept + FIXED
        return int((self.memory - used) * SPARE) - sum(a.nbytes for a in feed.values())

    def _sizes(self, feed: Mapping[str, np.ndarray]) -> dict[str, int]:
        """The bytes of every tensor for a sample: from shapes, and from a run for those whose shape is unknown."""
        sized = onnx.ModelProto()
        sized.CopyFrom(self.model)
        for info in sized.graph.input:
            info.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
            for size in feed[info.name].shape:
                info.type.tensor_type.shape.dim.add().dim_value = size
        known = shapes.infer(sized)
        sizes = {
            name: _bytes(dims, kind) for name, (kind, dims) in known.items() if dims is not None and None not in dims
        }
        open_ = [n for node in self.model.graph.node for n in node.output if n and n not in sizes and n in self.types]
        return sizes | (self._measured_sizes(open_, feed) if open_ else {})

    def _measured_sizes(self, names: Sequence[str], feed: Mapping[str, np.ndarray]) -> dict[str, int]:
        probe = onnx.ModelProto()
        probe.CopyFrom(self.model)
        del probe.graph.output[:]
        for index, name in enumerate(names):
            probe.graph.node.append(helper.make_node("Shape", [name], [f"qdqgraph_shape_{index}"]))
            probe.graph.output.append(
                helper.make_tensor_value_info(f"qdqgraph_shape_{index}", onnx.TensorProto.INT64, None)
            )
        dims = self._session(probe).run(None, dict(feed))
        return {name: _bytes(tuple(d.tolist()), self.types[name]) for name, d in zip(names, dims, strict=True)}

    def _session(self, model: onnx.ModelProto) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # as `runtime.run`
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = False  # it keeps and rounds up what it once took
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # while NumPy counts
        place = str(self.network.folder.resolve())
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", place)
        try:
            return ort.InferenceSession(model.SerializeToString(), options, providers=[self.provider])
        except Exception as error:  # onnxruntime's own exceptions derive directly from Exception
            raise ModelError(f"onnxruntime cannot load the network: {first_line(error)}") from error


def _shared(value: Any) -> np.ndarray:
    """The values of an OrtValue: of floating-point tensors without a copy, read-only."""
    here = value.device_name() == "cpu" and value.element_type() in REAL
    return np.from_dlpack(value) if here else value.numpy()


def _bytes(dims: Iterable[int | None], kind: int) -> int:
    size = 4
    with suppress(KeyError, ValueError):
        size = np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize
    return math.prod(d or 1 for d in dims) * size

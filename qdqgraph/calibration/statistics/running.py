"""`Running`: runs a model in segments within a limit of memory, and gives tensors from inside it sample by sample."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ...errors import CalibrationError, ModelError, first_line
from ...extras import install_hint
from ...model import runtime, shapes
from ...model.external import external_files
from ...model.heap import trim
from ...model.mapped import mapped
from ...model.protos import element_types
from ...model.rounding import rounded
from ...model.seeds import seeded
from .segments import segments

DEFAULT_MEMORY = 2 << 30
"""Bytes: the peak of the process while it measures."""
SPARE = 0.55
"""The share of the free memory that tensors may take. The rest is for allocators and for what ONNX Runtime releases
late: the layers of YOLOv5s on 1760 x 1760 took 1.3 to 1.9 times the estimate (measured, onnxruntime 1.32)."""
FIXED = 64 << 20
"""Bytes for ONNX Runtime and its kernels' buffers."""
LEAST = 1 / 8
"""The share of the limit that tensors may take in any case: a process that is larger than the limit before anything is
measured, because its other libraries and data are, cannot keep it."""


class Running:
    """A model that runs in segments; they are made again for a sample larger than those before.

    Args:
        model: the model; its nodes are sorted.
        folder: where its external data lie.
        taps: the tensors to give, in the order in which they are computed.
        memory: the limit for the peak resident memory of the process, in bytes.
        provider: "cpu" or "cuda".
        reserved: bytes that the caller allocates beside.

    Raises:
        CalibrationError: a tap is not a tensor of the model.
        ModelError: onnxruntime is missing.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path,
        taps: Sequence[str],
        memory: int = DEFAULT_MEMORY,
        provider: str = "cpu",
        reserved: int = 0,
    ) -> None:
        if not runtime.available():
            raise ModelError(f"onnxruntime is not installed, and measuring runs the network: {install_hint('ort')}")
        self.folder, self.taps, self.memory, self.reserved = folder, dict.fromkeys(taps), memory, reserved
        self.provider = runtime.provider(provider)[0]
        self.model = seeded(rounded(model) if self.provider == runtime.PROVIDERS["cpu"] else model)
        self.packed = not runtime.is_heavy(self.model)
        self.types = element_types(self.model)
        self.given = [i.name for i in self.model.graph.input]
        unknown = [n for n in self.taps if n not in self.types]
        if unknown:
            raise CalibrationError(f"the network has no tensor {unknown[0]!r} of known type to measure")
        self.sessions: list[_Part] = []
        self.planned: dict[str, tuple[int, ...]] = {}

    def run(self, feed: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields each tap with its values for one sample, as soon as they are computed; the arrays are read-only.

        Floating-point inputs may have another precision than the network's, as samples of an FP16 network's FP32 twin.

        Raises:
            ModelError: the network cannot run, the sample does not fit it, or one node alone needs more memory.
        """
        import onnxruntime as ort

        feed = {name: self._typed(name, feed[name]) for name in self.given}
        if not self._fits({name: feed[name].shape for name in self.given}):
            self._plan(feed)
        values = {name: np.ascontiguousarray(array) for name, array in feed.items()}
        yield from ((name, feed[name]) for name in self.given if name in self.taps)
        for segment in self.sessions:
            try:
                given = {name: ort.OrtValue.ortvalue_from_numpy(values[name]) for name in segment.inputs}
                made = segment.session.run_with_ort_values(list(segment.outputs), given)
            except Exception as error:  # onnxruntime's own exceptions derive directly from Exception
                raise ModelError(f"onnxruntime cannot run the network: {first_line(error)}") from error
            # Each OrtValue of a result keeps all of them in memory; an array keeps only its own.
            values.update({name: self._array(name, value) for name, value in zip(segment.outputs, made, strict=True)})
            del made, given
            for name in segment.outputs:
                if name in self.taps:
                    yield name, values[name]
                if name in segment.last:
                    del values[name]
            for name in segment.last.intersection(segment.inputs):
                del values[name]

    def _array(self, name: str, value: Any) -> np.ndarray:
        """The values of a result: of floating-point tensors in the memory of the CPU without a copy, read-only.

        A result of an older ONNX Runtime, such as 1.20, has no `__dlpack__`: it is copied.
        """
        here = self.provider == runtime.PROVIDERS["cpu"] or value.device_name() == "cpu"
        shared = here and self.types.get(name) in runtime.REAL and hasattr(value, "__dlpack__")
        return np.from_dlpack(value) if shared else value.numpy()

    def _typed(self, name: str, array: np.ndarray) -> np.ndarray:
        wanted = np.dtype(helper.tensor_dtype_to_np_dtype(self.types[name]))
        return array.astype(wanted, copy=False) if (array.dtype.kind, wanted.kind) == ("f", "f") else array

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
        parts = segments(self.model, self.taps, sizes, self.types, self._budget())
        while parts:  # a part's model is not needed any more once it is loaded
            part = parts.pop(0)
            self.sessions.append(_Part(part.inputs, part.outputs, part.last, self._session(part.model)))

    def _budget(self) -> int:
        """Bytes left for tensors, the sample among them."""
        import onnxruntime  # noqa: F401 - its own memory counts
        import psutil

        trim()
        weights = sum(_bytes(tuple(t.dims), t.data_type) for t in self.model.graph.initializer)
        used = psutil.Process().memory_info().rss + (1 + self.packed) * weights + self.reserved + FIXED
        return int(max((self.memory - used) * SPARE, self.memory * LEAST))

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

        external_files(model, self.folder)
        try:
            with mapped(model, self.folder) as (data, folder):
                options = runtime.session_options(folder, packed=self.packed)
                options.enable_cpu_mem_arena = False  # it keeps and rounds up what it once took
                options.enable_mem_pattern = False
                options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # the file's, which the segments count on
                return ort.InferenceSession(data, options, providers=[self.provider])
        except Exception as error:  # onnxruntime's own exceptions derive directly from Exception
            raise ModelError(f"onnxruntime cannot load the network: {first_line(error)}") from error


@dataclass(frozen=True)
class _Part:
    """A loaded segment; see `segments.Segment`."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: frozenset[str]
    session: Any


def _bytes(dims: Iterable[int | None], kind: int) -> int:
    size = 4
    with suppress(KeyError, ValueError):
        size = np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize
    return math.prod(d or 1 for d in dims) * size

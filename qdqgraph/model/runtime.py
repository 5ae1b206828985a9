"""Runs a model in ONNX Runtime with graph optimizations disabled.

ONNX Runtime's own Q/DQ fusions change the least significant bits of the outputs
(https://github.com/microsoft/onnxruntime/issues/32132). onnxruntime is imported only when a model runs;
`import qdqgraph` does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..errors import ModelError, QdqgraphError, first_line
from .mapped import mapped
from .rounding import rounded
from .seeds import seeded
from .weights_first import weights_first

Feed = dict[str, np.ndarray]


class Feeds(Protocol):
    """Samples that can be read again: a list of them, or `calibration.data.samples.Samples`."""

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        """One mapping from input name to array for each sample."""

    def __len__(self) -> int:
        """Number of samples."""


REAL = (TensorProto.FLOAT, TensorProto.FLOAT16)
HEAVY = 1 << 28
"""Bytes of weights from which on a copy of them is too much."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def available() -> bool:
    """Returns whether onnxruntime is installed."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


def provider(wanted: str, what: str = "the numeric check") -> tuple[str, str]:
    """Returns the execution provider for "cpu" or "cuda", and a note if it is the CPU fallback, else "".

    Args:
        wanted: "cpu" or "cuda".
        what: what runs on it, for the note.

    Raises:
        ModelError: the name is unknown.
    """
    if wanted not in PROVIDERS:
        raise ModelError(f"unknown provider {wanted!r}; the providers are {', '.join(PROVIDERS)}")
    import onnxruntime as ort

    if PROVIDERS[wanted] in ort.get_available_providers():
        return PROVIDERS[wanted], ""
    return PROVIDERS["cpu"], f"onnxruntime has no {PROVIDERS[wanted]} here; {what} ran on the CPU"


def is_heavy(model: onnx.ModelProto) -> bool:
    """Returns whether the floating-point weights of a model are so large that it runs without a copy of them, in every
    session that is compared with another: `packed` in `session_options`."""
    real = (t for t in model.graph.initializer if t.data_type in REAL)
    return sum(math.prod(t.dims) * helper.tensor_dtype_to_np_dtype(t.data_type).itemsize for t in real) >= HEAVY


def session_options(folder: Path, *, packed: bool = True) -> Any:
    """Returns the SessionOptions of every run: no graph optimizations, no copy of a DequantizeLinear for each of its
    readers, no messages, no threads that spin between two operators; external data lie in `folder`.

    Unless `packed`, ONNX Runtime reads weights where they are; by default it copies those of float layers into another
    order, which takes their size in memory, and may change the last bits of a product.

    Source: https://github.com/microsoft/onnxruntime/blob/main/include/onnxruntime/core/session/onnxruntime_session_options_config_keys.h
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    return options


class Session:
    """A model loaded by ONNX Runtime.

    On the CPU provider, FP16 tensors are rounded as on a GPU (see `rounding`). Random numbers are the same in every
    run and in every model (see `seeds`). That changes the model, so the model itself is loaded first: one
    that onnxruntime refuses has no outputs. Weights are dequantized one at a time (see `weights_first`).

    Args:
        model: the model to run.
        folder: the folder that contains the external data.
        provider: the execution provider.
        packed: as `session_options`.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """

    def __init__(
        self, model: onnx.ModelProto, folder: Path, provider: str = PROVIDERS["cpu"], *, packed: bool = True
    ) -> None:
        self._folder, self._provider, self._packed = folder, provider, packed
        types = {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
        self._real = {name: helper.tensor_dtype_to_np_dtype(kind) for name, kind in types.items() if kind in REAL}
        model = weights_first(model)
        try:
            self._session = self._loaded(model)
            stored = seeded(rounded(model) if provider == PROVIDERS["cpu"] else model)
            if stored is not model:
                del self._session  # both would be in memory
                self._session = self._loaded(stored)
        except Exception as error:  # onnxruntime's own exceptions derive directly from Exception
            raise _refused(error) from error

    def _loaded(self, model: onnx.ModelProto) -> Any:
        import onnxruntime as ort

        with mapped(model, self._folder) as (data, folder):
            options = session_options(folder, packed=self._packed)
            return ort.InferenceSession(data, options, providers=[self._provider])

    def run(self, feeds: Feeds) -> list[list[np.ndarray]]:
        """Returns the model's outputs for each sample, as `array_of`.

        Args:
            feeds: one mapping per sample, from input name to array. Floating-point arrays are cast to the input's
                type, FP32 or FP16.

        Raises:
            ModelError: onnxruntime cannot run the model on them.
        """
        return list(self.each(feeds))

    def each(self, feeds: Iterable[Mapping[str, np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Yields what `run` returns, sample by sample."""
        try:
            for feed in feeds:
                yield [array_of(value) for value in self._session.run(None, self._cast(feed))]
        except QdqgraphError:
            raise
        except Exception as error:  # as above
            raise _refused(error) from error

    def _cast(self, feed: Mapping[str, np.ndarray]) -> Feed:
        real = self._real
        return {n: a.astype(real[n], copy=False) if n in real and a.dtype.kind == "f" else a for n, a in feed.items()}


def array_of(value: object) -> np.ndarray:
    """An output of ONNX Runtime as one array.

    Texts have a type of fixed width, so that equal texts have equal bytes. The tensors of a sequence are stacked if
    they have one shape, else one after another, [values]; a map is the sequence of its values, and an empty optional
    has none.
    """
    if isinstance(value, np.ndarray):
        return value.astype(str) if value.dtype == object else value
    if isinstance(value, Mapping):
        return array_of([*value.values()])
    if value is None or (isinstance(value, list) and not value):
        return np.zeros(0, np.bool_)
    if not isinstance(value, list):
        return np.asarray(value)
    arrays = [array_of(each) for each in value]
    alike = len({array.shape for array in arrays}) == 1
    return np.stack(arrays) if alike else np.concatenate([array.reshape(-1) for array in arrays])


def run(model: onnx.ModelProto, feeds: Feeds, folder: Path, provider: str = PROVIDERS["cpu"]) -> list[list[np.ndarray]]:
    """Loads a model and returns its outputs for each sample; see `Session`.

    Raises:
        ModelError: onnxruntime cannot load or run the model.
    """
    return Session(model, folder, provider).run(feeds)


def _refused(error: Exception) -> ModelError:
    return ModelError(f"onnxruntime cannot run the model: {first_line(error)}")

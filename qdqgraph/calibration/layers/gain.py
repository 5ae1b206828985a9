"""The SQNR of the outputs of a Q/DQ graph against its float network, for each sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ...errors import ModelError
from ...extras import install_hint
from ...model import runtime
from ...model.runtime import Feeds
from ..sqnr import EXACT, limited, sqnr
from ..statistics.floating import FloatModel


def output_sqnr(
    models: Sequence[onnx.ModelProto], network: FloatModel, feeds: Feeds, folder: Path, provider: str = "cpu"
) -> NDArray[np.float64]:
    """The SQNR of Q/DQ graphs of one network in dB: the mean over outputs, [models, samples].

    Integer outputs, such as classes, count only if no output is floating-point.

    Args:
        models: the Q/DQ graphs.
        network: their float network.
        feeds: the samples.
        folder: where external data lie.
        provider: "cpu" or "cuda".

    Raises:
        ModelError: onnxruntime is missing, or cannot run a model; or no output is numeric.
    """
    if not runtime.available():
        raise ModelError(f"onnxruntime is not installed, and measuring errors runs the network: {install_hint('ort')}")
    device = runtime.provider(provider)[0]
    packed = not runtime.is_heavy(network.model)
    exact = runtime.Session(network.model, network.folder, device, packed=packed)
    sessions = [runtime.Session(model, folder, device, packed=packed) for model in models]
    found: list[list[float]] = []
    for feed in feeds:
        wanted = exact.run([feed])[0]
        found.append([_mean(wanted, session.run([feed])[0]) for session in sessions])
    return np.array(found, np.float64).T


def change(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float]:
    """How far the mean of `after` is above that of `before`, in dB, and its standard error over the samples.

    Args:
        before, after: the SQNR for each sample, [samples]. With one sample the standard error is 0.
    """
    each = after - before
    return float(each.mean()), float(np.std(each, ddof=1)) / math.sqrt(each.size) if each.size > 1 else 0.0


def _mean(wanted: Sequence[object], got: Sequence[object]) -> float:
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(wanted, got, strict=True)]
    real = [pair for pair in pairs if pair[0].dtype.kind == "f"] or [p for p in pairs if p[0].dtype.kind in "iub"]
    if not real:
        raise ModelError("the network has no numeric output, so its error cannot be measured")
    return float(np.mean([_ratio(a.astype(np.float64), b.astype(np.float64)) for a, b in real]))


def _ratio(wanted: np.ndarray, got: np.ndarray) -> float:
    """The SQNR of one output, limited; that of another shape, as of detections whose number varies, is the least."""
    if wanted.shape != got.shape:
        return -EXACT
    with np.errstate(over="ignore", invalid="ignore"):  # an output may be infinite or NaN
        return limited(sqnr(float(np.sum(wanted**2)), float(np.sum((got - wanted) ** 2))))

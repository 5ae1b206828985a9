"""Compares the outputs of two models: bit-exact equality and SQNR in dB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..model.runtime import PROVIDERS, Feeds, run


@dataclass(frozen=True)
class Agreement:
    """The agreement of two models on one output over all samples.

    Attributes:
        sqnr: signal to quantization-noise ratio in dB, 10·log10(Σ ref² / Σ (ref − new)²); inf if all values are
            equal, nan if a value is not finite, -inf if the shapes or types differ or the reference is all zero.
        identical: whether all samples are equal bit for bit, NaN included.
        caveat: why the output shows nothing or little, such as "empty, compares nothing"; "" otherwise.
    """

    sqnr: float
    identical: bool
    caveat: str = ""


def compare(
    reference: onnx.ModelProto,
    model: onnx.ModelProto,
    feeds: Feeds,
    folder: Path,
    provider: str = PROVIDERS["cpu"],
) -> dict[str, Agreement]:
    """Returns the agreement of `model` with `reference`, by output name.

    Args:
        reference: the reference model.
        model: the model to compare, with the same inputs and outputs.
        feeds: one mapping per sample, from input name to array.
        folder: the folder that contains the external data.
        provider: the execution provider of ONNX Runtime.

    Raises:
        ModelError: ONNX Runtime cannot run one of the models.
    """
    ours, theirs = (run(m, feeds, folder, provider) for m in (reference, model))
    names = [o.name for o in reference.graph.output]
    return {n: agreement([o[i] for o in ours], [o[i] for o in theirs]) for i, n in enumerate(names)}


def agreement(reference: Sequence[Any], found: Sequence[Any]) -> Agreement:
    """Returns the agreement of the samples of one output. FP16 is compared with FP32 by value.

    Outputs that are not numeric are compared for equality only.
    """
    caveat = _caveat([np.asarray(a) for a in reference])
    identical, signal, error = True, 0.0, 0.0
    for a, b in zip(reference, found, strict=True):
        x, y = np.asarray(a), np.asarray(b)
        if x.shape != y.shape:
            return Agreement(-math.inf, False, f"its shape is {[*y.shape]} instead of {[*x.shape]}")
        if x.dtype != y.dtype and (x.dtype.kind, y.dtype.kind) != ("f", "f"):
            return Agreement(-math.inf, False, caveat)
        identical = identical and x.dtype == y.dtype and x.tobytes() == y.tobytes()
        if x.dtype.kind in "fiub":
            wide = x.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # an output may be infinite or NaN
                signal += float(np.sum(wide**2))
                error += float(np.sum((wide - y.astype(np.float64)) ** 2))
    if identical:
        return Agreement(math.inf, True, caveat)
    if not math.isfinite(signal) or not math.isfinite(error):
        return Agreement(math.nan, False, caveat)
    if error == 0:
        return Agreement(math.inf, False, caveat)
    return Agreement(10 * math.log10(signal / error) if signal else -math.inf, False, caveat)


def _caveat(samples: Sequence[np.ndarray]) -> str:
    """Returns why the values of one output show nothing or little; "" if they differ among themselves."""
    values = np.concatenate([a.reshape(-1) for a in samples]) if samples else np.zeros(0)
    if not values.size:
        return "empty, compares nothing"
    if values.dtype.kind == "f" and np.isnan(values).all():
        return "all values are NaN, compares nothing"
    if values.size > 1 and values.dtype.kind in "fiub" and np.all(values == values[0]):
        return f"all values are {values[0]:.6g}, compares little"
    return ""

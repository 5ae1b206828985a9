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
    """

    sqnr: float
    identical: bool


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

"""Compares the engines of a repaired model and of its original: forecast for a GPU, and built on TensorRT-RTX."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from ...errors import EngineError
from ...graph.graph import Graph
from ...model.files import write_model
from ...targets.target import Target
from ..compare.diff import Diff, diff
from ..compare.storage import Storage
from ..forecast.forecast import forecast
from .builder import built
from .how import Build


@dataclass(frozen=True)
class Proof:
    """The effect of a repair on the engine.

    Attributes:
        predicted: the difference of the forecasts.
        real: the difference of the TensorRT-RTX builds; None if TensorRT-RTX refuses the original.
        before: what the build of the original stores between convolution blocks; None if TensorRT-RTX refuses it.
        after: what the build of the repaired model stores between convolution blocks.
        refused: why TensorRT-RTX refuses the original; "" if it does not.
    """

    predicted: Diff
    real: Diff | None
    before: Storage | None
    after: Storage
    refused: str = ""


def prove(path: Path, model: onnx.ModelProto, fixed: onnx.ModelProto, target: Target) -> Proof:
    """Forecasts and builds a model and its repair.

    Args:
        path: the file of the original model.
        model: the original model.
        fixed: the repaired model.
        target: the TensorRT generation of the forecasts.

    Raises:
        EngineError: TensorRT-RTX is missing, or refuses the repaired model.
    """
    before, after = (
        forecast(Graph(m, path.parent, target=target), name) for m, name in ((model, "before"), (fixed, "after"))
    )
    with tempfile.TemporaryDirectory(prefix="qdqgraph-") as folder:
        file = Path(folder) / path.name
        write_model(fixed, file, path)
        new = replace(built(file, "tensorrt-rtx", Build()), name="after")
        try:
            old = replace(built(path, "tensorrt-rtx", Build()), name="before")
        except EngineError as error:
            return Proof(diff(before, after), None, None, Storage.of(new), str(error))
    return Proof(diff(before, after), diff(old, new), Storage.of(old), Storage.of(new))

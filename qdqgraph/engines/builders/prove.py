"""A repair against the model it was made from, as engines: forecast for a GPU, built on TensorRT-RTX."""

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
    """What became of a repair.

    Attributes:
        foretold: the difference of the forecasts.
        real: the difference of the builds by TensorRT-RTX; None where it refuses the original.
        before, after: what these builds store between convolution blocks.
        refused: why TensorRT-RTX refuses the original, "" where it does not.
    """

    foretold: Diff
    real: Diff | None
    before: Storage | None
    after: Storage
    refused: str = ""


def prove(path: Path, model: onnx.ModelProto, fixed: onnx.ModelProto, target: Target) -> Proof:
    """Forecasts and builds a model, which lies at `path`, and its repair.

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

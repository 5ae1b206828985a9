"""Compares the engines of a repaired model and of its original: forecast for a GPU, and built on TensorRT-RTX."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from ...errors import EngineError
from ...graph.graph import Graph
from ...model.dims import Shapes
from ...model.writing.folders import temporary_folder
from ...model.writing.models import Source, placed, write_model
from ...targets.target import Target
from ..compare.diff import Diff, diff
from ..compare.storage import Storage
from ..forecast.forecast import fused
from ..layers import Engine
from .builder import built
from .how import Build

LIBRARY = "tensorrt-rtx"
"""What builds the engines that are compared: it needs no GPU."""


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

    @property
    def worse(self) -> str:
        """Why the repaired model's build is worse; "" if it is not, or there is no build to compare with.

        It compares what a build by TensorRT-RTX shows of a GPU's engine: convolutions that read INT8, and the bytes
        stored between convolution blocks. The tensor between a convolution and its epilogue is FP16 or FP32 there
        depending on the granularity of the weights' scales (measured on TensorRT-RTX 1.7.1), so the bytes of all
        layers, which include it, do not count. Where more matrix products run in INT8, `Storage.boundary_since` says
        which bytes count. A tensor that is stored as INT8 for one reader and in floating point for another is written
        in both types, and the first reads a quarter: bytes count if layers also read and write more in total.
        """
        if self.before is None:
            return ""
        old, new, found = self.before, self.after, list[str]()
        counted = new.boundary_since(old)
        if new.int8_convolutions < old.int8_convolutions:
            found.append(f"{new.int8_convolutions} convolutions read INT8 instead of {old.int8_convolutions}")
        floats = counted["FP32"] + counted["FP16"]
        passes, passes_floats = new.passed_bytes > old.passed_bytes, new.passed_floats > old.passed_floats
        for word, was, now, more, moves in (
            ("stored between convolution blocks", old.boundary_bytes, new.boundary_bytes, counted.total(), passes),
            ("stored between them as float", old.float_bytes, new.float_bytes, floats, passes_floats),
        ):
            if more > was and moves:
                found.append(f"{now:,} bytes are {word} instead of {was:,}")
        return ", ".join(found)

    @property
    def verdict(self) -> str:
        """Whether the repaired model's build is worse, in words."""
        return f"after is worse: {self.worse}" if self.worse else "after is not worse"


def prove(original: Source, fixed: onnx.ModelProto, target: Target, sizes: Shapes) -> Proof:
    """Forecasts and builds a model and its repair.

    Args:
        original: the original model, its file, and the folder of its external data.
        fixed: the repaired model.
        target: the TensorRT generation of the forecasts.
        sizes: the shapes of inputs with dynamic dimensions, by name.

    Raises:
        EngineError: TensorRT-RTX is missing, or refuses the repaired model.
    """
    models = (original.original, "before"), (fixed, "after")
    before, after = (fused(Graph.opened(m, original.folder, target=target).sized(sizes), name) for m, name in models)
    with temporary_folder() as folder:
        new = _built(_placed(fixed, original, folder / "after"), "after", sizes)
        try:
            apart = original.folder != original.path.parent  # where TensorRT looks for external data
            file = _placed(original.original, original, folder / "before") if apart else original.path
            old = _built(file, "before", sizes)
        except EngineError as error:
            return Proof(diff(before, after), None, None, Storage.of(new), str(error))
    return Proof(diff(before, after), diff(old, new), Storage.of(old), Storage.of(new))


def _placed(model: onnx.ModelProto, source: Source, folder: Path) -> Path:
    """The file of a model in a new folder, with copies of its external data."""
    folder.mkdir()
    file = folder / source.path.name
    write_model(placed(model, file, source), file, source)
    return file


def _built(file: Path, name: str, sizes: Shapes) -> Engine:
    return replace(built(file, LIBRARY, Build(shapes=sizes)), name=name)

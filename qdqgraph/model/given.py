"""A model as a call gets it: in memory, or as a path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import onnx

from .external import refuse_beyond_protobuf
from .files import read_model

File: TypeAlias = str | os.PathLike[str]
Model: TypeAlias = onnx.ModelProto | File


def read(model: Model, folder: File | None) -> tuple[onnx.ModelProto, Path, Path]:
    """Returns the model, the folder of its external data, and its path.

    Raises:
        ModelError: the file cannot be read, or is not an ONNX model; or a model in memory is too large for protobuf.
    """
    if isinstance(model, onnx.ModelProto):
        refuse_beyond_protobuf(model)
        place = Path(folder or ".")
        return model, place, place / "model.onnx"
    path = Path(model)
    return read_model(path), Path(folder or path.parent), path

"""The mark of a result: by it a later run recognizes its own result, and changes no byte of it.

A run on data is a function of the file and the data. On its own result it could find other numbers: the float weights
are gone, or the network is rounded to FP16.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import onnx

from ..model.content import content
from .repair import R, with_entry

RESULT = "qdqgraph.result"
"""The metadata_props key of a digest of the model and of the run that produced it."""


Run: TypeAlias = Callable[[], str]
"""What a result depends on beside its model: data, options, rules. Called only where it is needed: it may read data."""


def is_result(model: onnx.ModelProto, folder: Path, run: Run) -> bool:
    """Whether a model is the unchanged result of a run.

    Args:
        model: the model.
        folder: where external data lie.
        run: the run.

    Raises:
        ModelError: external data or samples cannot be read.
    """
    mark = next((entry.value for entry in model.metadata_props if entry.key == RESULT), None)
    return mark is not None and mark == _mark(model, folder, run)


def marked(repair: R, model: onnx.ModelProto, folder: Path, run: Run) -> R:
    """The repair of a model with the mark in the metadata of its result; arguments and errors as `is_result`."""
    return with_entry(repair, model, RESULT, _mark(repair.model, folder, run))


def _mark(model: onnx.ModelProto, folder: Path, run: Run) -> str:
    return hashlib.sha256(f"{content(model, folder)} {run()}".encode()).hexdigest()

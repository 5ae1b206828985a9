"""Reads the scales of tensors from a file: of TensorRT, Model Optimizer, AIMET, ONNX Runtime, or our own statistics.

A format of another tool is one module with `recognizes` and `scales`; `read` tries them in order. Statistics contain
histograms instead of scales, so `stored` chooses the scales by a calibration method.
"""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import ModelError, reason
from ...model import kinds
from ...model.recognized import mistaken
from . import aimet, onnxruntime, tensorrt
from .table import Table, checked

FORMATS = (
    "a TensorRT calibration cache (Model Optimizer's too), AIMET encodings, ONNX Runtime's calibration table, or "
    "statistics that --statistics wrote"
)


def read(path: Path) -> Table:
    """Reads a table; the format is recognized by its content.

    Raises:
        ModelError: the file cannot be read, has no known format, or contains no usable range.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fault = mistaken(path, "a file of ranges") or f"cannot be read: {reason(error)}"
        raise ModelError(f"{path}: {fault}; --ranges accepts {FORMATS}") from error
    try:
        if tensorrt.recognizes(text):
            return checked(tensorrt.scales(text), f"{tensorrt.NAME} {path.name}")
        if (document := _document(text)) is not None:
            for kind in (aimet, onnxruntime):
                if kind.recognizes(document):
                    return checked(kind.scales(document), f"{kind.NAME} {path.name}")
        elif onnxruntime.recognizes_text(text):
            return checked(onnxruntime.scales_of_text(text), f"{onnxruntime.NAME} {path.name}")
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path}: an entry has an unexpected form: {error}") from error
    fault = mistaken(path, "a file of ranges", accepts=(kinds.JSON, kinds.TEXT)) or "unknown format"
    raise ModelError(f"{path}: {fault}; --ranges accepts {FORMATS}")


def _document(text: str) -> object | None:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None

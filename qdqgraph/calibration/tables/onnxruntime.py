"""The calibration data of onnxruntime.quantization: calibration.json, and the text calibration.cache.

Source: onnxruntime 1.32, `onnxruntime.quantization.quant_utils.write_calibration_table` and
`onnxruntime.quantization.calibrate.save_tensors_data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .table import scale_of_range

NAME = "ONNX Runtime calibration table"


def recognizes(document: Any) -> bool:
    """Whether a JSON document is a TensorsData of onnxruntime."""
    return (
        isinstance(document, dict) and document.get("CLS") == "TensorsData" and isinstance(document.get("data"), dict)
    )


def scales(document: Mapping[str, Any]) -> Mapping[str, float | str]:
    """The symmetric scale of each tensor by name; a reason for those without one."""
    return {str(name): _scale(entry) for name, entry in document["data"].items()}


def _scale(entry: Any) -> float | str:
    ends = [_single(entry.get(end)) for end in ("lowest", "highest")] if isinstance(entry, dict) else [None]
    low, high = ends if len(ends) == 2 else (None, None)
    if low is None or high is None:
        return "it has no single range"
    return scale_of_range(low, high)


def _single(value: Any) -> float | None:
    """A number, also as an encoded NumPy array of one element; None for anything else."""
    if isinstance(value, dict):
        value = value.get("data")
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, int | float) else None


def recognizes_text(text: str) -> bool:
    """Whether each line is "NAME AMAX", as in calibration.cache."""
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if line.strip()]
    return bool(rows) and all(len(row) == 2 and _number(row[1]) is not None for row in rows)


def scales_of_text(text: str) -> Mapping[str, float | str]:
    """The scale of each tensor of a calibration.cache, which contains amax."""
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if line.strip()]
    return {name: scale_of_range(0.0, float(amax)) for name, amax in rows}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

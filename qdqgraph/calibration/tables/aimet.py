"""AIMET's encodings: JSON of the versions 0.6, 1.0 and 2.0.

Source: https://quic.github.io/aimet-pages/releases/latest/quantsim/encodings.html (encoding format specification).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .table import scale_of_range

NAME = "AIMET encodings"


def recognizes(document: Any) -> bool:
    """Whether a JSON document has the keys of AIMET's encodings."""
    return isinstance(document, dict) and ("activation_encodings" in document or "encodings" in document)


def scales(document: Mapping[str, Any]) -> Mapping[str, float | str]:
    """The symmetric scale of each activation by name; a reason for those without one."""
    return {name: _scale(entries) for name, entries in _activations(document)}


def _activations(document: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """The encodings by activation: 0.6 maps names to lists, 1.0 lists entries with a name, 2.0 lists all tensors."""
    found = document.get("activation_encodings", document.get("encodings"))
    if isinstance(found, dict):
        yield from ((str(name), entries) for name, entries in found.items() if isinstance(entries, list))
    for entry in found if isinstance(found, list) else ():
        if isinstance(entry, dict) and "name" in entry:
            yield str(entry["name"]), [entry]


def _scale(entries: Sequence[Mapping[str, Any]]) -> float | str:
    if len(entries) != 1:
        return f"it has {len(entries)} encodings; an activation needs one"
    entry = entries[0]
    kind = str(entry.get("output_dtype", entry.get("dtype", "int"))).lower()
    if "float" in kind:
        return "it is a floating-point encoding"
    bits = int(entry.get("bitwidth", entry.get("bw", kind.lstrip("uint") or 8)))
    if bits != 8:
        return f"it has {bits} bits; TensorRT's activations need 8"
    if "min" in entry and "max" in entry:
        return scale_of_range(float(entry["min"]), float(entry["max"]))
    value, offset = (_single(entry.get(a, entry.get(b))) for a, b in (("y_scale", "scale"), ("y_zero_point", "offset")))
    if value is None:
        return "it has no single scale"
    # 1.0 writes the offset of an unsigned grid, -128 for a symmetric one; 2.0 ONNX's zero-point.
    low, high = _integers(kind, offset or 0.0, "y_scale" in entry)
    return scale_of_range(value * low, value * high)


def _integers(kind: str, offset: float, onnx: bool) -> tuple[float, float]:
    """The smallest and largest step of the range around zero. A symmetric range counts as [-127, 127]."""
    if onnx:
        low, high = (0.0, 255.0) if kind.startswith("u") else (-128.0, 127.0)
        low, high = low - offset, high - offset
    else:
        low, high = offset, 255.0 + offset
    return (-127.0, 127.0) if (low, high) == (-128.0, 127.0) else (low, high)


def _single(value: Any) -> float | None:
    """A number, or the only element of a list; None for anything else."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, int | float) else None

"""TensorRT's calibration cache, which Model Optimizer reads and writes too.

A first line "TRT-<version>-<calibrator>", then one line a tensor: its name, a colon, and the scale as big-endian
hexadecimal float32. Source: https://github.com/NVIDIA/TensorRT/blob/release/10.0/include/NvInfer.h (IInt8Calibrator),
https://github.com/NVIDIA/Model-Optimizer/blob/main/modelopt/onnx/quantization/calib_utils.py
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from ...errors import ModelError

HEADER = re.compile(r"TRT-\d+-\w+")
LINE = re.compile(r"(.+): ?([0-9a-fA-F]{1,8})")
NAME = "TensorRT calibration cache"


def recognizes(text: str) -> bool:
    """Whether the text starts like a calibration cache."""
    return HEADER.match(text.lstrip("\ufeff")) is not None


def scales(text: str) -> Mapping[str, float | str]:
    """The scale of each tensor by name, exact.

    Raises:
        ModelError: a line is not "name: hexadecimal float32".
    """
    found: dict[str, float | str] = {}
    for number, line in enumerate(text.splitlines()[1:], start=2):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise ModelError(f"line {number} is {line[:60]!r}; a calibration cache has NAME: HEXADECIMAL FLOAT32")
        found[match[1]] = struct.unpack(">f", bytes.fromhex(match[2].zfill(8)))[0]
    return found


def written(scales: Mapping[str, float], version: int = 100000) -> str:
    """The text of a calibration cache with these scales, rounded to float32."""
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    return "\n".join([f"TRT-{version}-EntropyCalibration2", *lines, ""])

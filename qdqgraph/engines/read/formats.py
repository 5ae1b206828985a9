"""Precision and layout from the tensor formats that the engine inspector writes.

8.x and 10.x write prose ("Thirty-two wide channel vectorized row major Int8 format") or, in Myelin's layers, a bare
type ("Half"); 11.x has a field for each. Unknown words become the layout.
"""

from __future__ import annotations

import re

from ..layers import UNKNOWN

TYPES = {
    "fp64": "FP64",
    "double": "FP64",
    "fp32": "FP32",
    "float": "FP32",
    "float32": "FP32",
    "fp16": "FP16",
    "half": "FP16",
    "float16": "FP16",
    "bf16": "BF16",
    "bfloat16": "BF16",
    "fp8": "FP8",
    "e4m3": "FP8",
    "int8": "INT8",
    "uint8": "UINT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
    "int4": "INT4",
    "fp4": "FP4",
    "fp4e2m1": "FP4",
}
WIDTHS = {"two": 2, "four": 4, "eight": 8, "sixteen": 16, "thirty-two": 32}
WORD = re.compile(r"[A-Za-z]+\d*")


def precision(word: str) -> str:
    """The precision of a type name: "Int8", "kINT8", "Half", "INT8" …; `UNKNOWN` for any other word."""
    plain = word.strip().lower()
    return TYPES.get(plain, TYPES.get(plain.removeprefix("k"), UNKNOWN))


def split(prose: str) -> tuple[str, str]:
    """Precision and layout of a `Format/Datatype`; unknown words become the layout."""
    found = [t for word in WORD.findall(prose) if (t := precision(word)) != UNKNOWN]
    if not found:
        return UNKNOWN, prose.strip()
    return found[0], layout(prose)


def layout(prose: str) -> str:
    """A short name of a layout: "linear", "CHW32", "HWC8"; an unknown one is unchanged, without types."""
    words = [w for w in prose.replace("format", " ").split() if precision(w) == UNKNOWN]
    rest = " ".join(words)
    lower = rest.lower()
    if lower in ("", "row major", "row major linear", "linear", "klinear"):
        return "linear" if lower else ""
    if wide := re.fullmatch(r"([a-z-]+) wide channel vectorized row major", lower):
        return f"CHW{WIDTHS[wide[1]]}" if wide[1] in WIDTHS else rest
    if major := re.fullmatch(r"channel major(?: where channel % (\d+) == 0)?", lower):
        return f"HWC{major[1] or ''}"
    return rest

"""Models for tests of the command line, and the program."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

from tests.support.models import build

TEXT = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"


CLEAN = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"


ILLEGAL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) <float s = {0}, int8 z = {0}, float t = {0.1}, int8 o = {3}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Sigmoid (d)
    p = QuantizeLinear (x, t, o) v = DequantizeLinear (p, t, o) }"""


def saved(folder: Path, text: str, name: str = "other.onnx") -> Path:
    onnx.save(build(text), folder / name)
    return folder / name


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "qdqgraph", *arguments]

"""Models for tests of the command line and of the calls, the program, and its commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import onnx

from qdqgraph.cli.parsers import Parser, commands_of
from tests.support.models import build

TEXT = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"


CLEAN = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"


ILLEGAL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) <float s = {0}, int8 z = {0}, float t = {0.1}, int8 o = {3}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Sigmoid (d)
    p = QuantizeLinear (x, t, o) v = DequantizeLinear (p, t, o) }"""
MODEL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
    a = Relu (x)  b = t.pair (a, s1)  c = t.pair (a, s2)  d = t.conv4 (b, s1)  e = t.conv4 (c, s2)  y = Add (d, e) }"""


def saved(folder: Path, text: str, name: str = "other.onnx") -> Path:
    onnx.save(build(text), folder / name)
    return folder / name


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "qdqgraph", *arguments]


def all_commands(found: Parser) -> Iterator[Parser]:
    yield found
    for below in commands_of(found):
        yield from all_commands(below)

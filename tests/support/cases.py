"""Small graphs after public bug reports: ONNX text whose header says what is right, and whose weights are drawn.

A file of `tests/cases` is a header of `# key: value` lines and ONNX text. In place of its values an initializer can name
how to draw them, so that a file shows its shape alone:

    float[8,4,3,3] w = {normal 0.1}       normal, mean 0, with this standard deviation
    float[8] bias = {uniform -0.2 0.2}    uniform between two numbers
    int8[8,4,3,3] q = {integers -127 127} integers from the first number to the last
    float16[8] half = {all 0.02}          one value, also for types that ONNX text cannot write
    float[8] s = {scales w 0}             largest magnitude of w along its axis 0, divided by 127, as exporters do

The generator is seeded with the name of the initializer.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.paths import ROOT

FOLDER = ROOT / "tests" / "cases"
"""The cases of the repository."""

DRAWN = re.compile(
    r"(?P<kind>\w+)(?:\[(?P<dims>[\d,]*)\])?\s+(?P<name>\w+)\s*=\s*\{(?P<how>normal|uniform|integers|all|scales)\s+(?P<by>[^}]*)\}"
)
"""An initializer whose values are drawn."""


@dataclass(frozen=True, eq=False)
class Case:
    """A graph and what is right for it.

    Attributes:
        name: the name of the file, without its suffix.
        model: the graph.
        says: the lines of the header, by key; a key can occur several times.
    """

    name: str
    model: onnx.ModelProto
    says: tuple[tuple[str, str], ...]

    def all(self, key: str) -> list[str]:
        """The values of every line with this key."""
        return [value for k, value in self.says if k == key]

    def one(self, key: str) -> str:
        """The value of the one line with this key; "" if there is none.

        Raises:
            ValueError: there are several.
        """
        found = self.all(key)
        if len(found) > 1:
            raise ValueError(f"{self.name}: several lines '{key}'")
        return found[0] if found else ""


def read(path: Path) -> Case:
    """Reads a case: a file of ONNX text with a header, or any ONNX file, which says nothing."""
    if path.suffix == ".onnx":
        return Case(path.stem, onnx.load(path), ())
    text = path.read_text(encoding="utf-8")
    return Case(path.stem, model(text), tuple(_header(text)))


def _header(text: str) -> Iterator[tuple[str, str]]:
    key, value = "", ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if found := re.fullmatch(r"# (\w+): (.*)", line):
            if key:
                yield key, value
            key, value = found.groups()
        else:
            value += " " + line.removeprefix("#").strip()
    if key:
        yield key, value


def model(text: str) -> onnx.ModelProto:
    """The model of an ONNX text with drawn values. It can be invalid: some cases are."""
    values: dict[str, np.ndarray] = {}
    late: list[re.Match[str]] = []
    for found in DRAWN.finditer(text):
        if found["how"] == "scales":
            late.append(found)
        else:
            values[found["name"]] = _drawn(found)
    for found in late:
        tensor, axis = found["by"].split()
        weights = values[tensor].astype(np.float64)
        others = tuple(i for i in range(weights.ndim) if i != int(axis))
        values[found["name"]] = (np.abs(weights).max(axis=others) / 127).astype(_dtype(found))
    made: onnx.ModelProto = onnx.parser.parse_model(DRAWN.sub(r"float \g<name> = {0}", text))
    for tensor in made.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return made


def _dtype(found: re.Match[str]) -> np.dtype:
    return helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(found["kind"].upper()))


def _drawn(found: re.Match[str]) -> np.ndarray:
    random = np.random.default_rng(zlib.crc32(found["name"].encode()))
    dims = tuple(map(int, filter(None, (found["dims"] or "").split(","))))
    by = [float(b) for b in found["by"].split()]
    values: np.ndarray
    match found["how"]:
        case "normal":
            values = random.normal(0, by[0], dims)
        case "uniform":
            values = random.uniform(by[0], by[1], dims)
        case "integers":
            values = random.integers(int(by[0]), int(by[1]), dims, endpoint=True)
        case _:
            values = np.full(dims, by[0])
    return values.astype(_dtype(found))


def sample(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """One input: floats uniform over [-3, 3], integers and booleans 0 or 1; dimensions without a size are 2."""
    random = np.random.default_rng(0)
    constants = {tensor.name for tensor in model.graph.initializer}
    made = {}
    for value in model.graph.input:
        if value.name not in constants:
            kind = value.type.tensor_type
            dims = [d.dim_value or 2 for d in kind.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            whole = dtype.kind in "iub"
            made[value.name] = (random.integers(0, 2, dims) if whole else random.uniform(-3, 3, dims)).astype(dtype)
    return made

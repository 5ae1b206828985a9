"""What is mutated: the graphs of tests/cases, plans, rules, settings, engines and tables of the repository."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support import cases
from tests.support.models import build
from tests.support.paths import ROOT

GRAPHS = (
    "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) "
    "v = t.conv4 (a, s2) }",
    "g (float[1,4,8,8] x) => (float[1,8,8,8] y) { a = t.conv4 (x, s1) b = t.conv4 (x, s2) c = Concat <axis = 1> (a, b) "
    "y = Relu (c) }",
)
SIZE = 40_000
"""Bytes of the largest seed: larger ones are slower, and not other."""
SETTINGS = """[tool.qdqgraph]
target = "trt-10"
ignore = ["QDQ305"]
only = ["*"]
max-bits-lost = 1.5
also = ["QDQ403"]
rules = ["rule.toml"]

[tool.qdqgraph.models."*.onnx"]
ignore = ["QDQ2"]
"""


@dataclass(frozen=True)
class Seeds:
    """Every seed, by kind."""

    models: tuple[onnx.ModelProto, ...]
    documents: tuple[tuple[str, Any], ...]
    rules: tuple[tuple[str, str], ...]


@cache
def seeds() -> Seeds:
    """The seeds of the repository, in a fixed order."""
    found = [build(graph) for graph in GRAPHS]
    for path in sorted(cases.FOLDER.glob("*.onnxtxt")):
        found.append(cases.read(path).model)
    models = tuple(m for m in found if m.ByteSize() <= SIZE)
    data = ROOT / "tests" / "data"
    documents = [("plan", json.loads((data / "plan.json").read_text()))]
    documents += [("engine", json.loads((data / f"{name}.json").read_text())) for name in ("qat-residual.graph",)]
    documents += [("ranges", {"x": 1.0, "y": {"min": -1.0, "max": 2.0}})]
    encodings = {"version": "0.6.1", "activation_encodings": {"x": [{"bitwidth": 8, "max": 1.0, "min": -1.0}]}}
    documents += [("ranges", encodings)]
    rules = [(path.name, path.read_text()) for path in sorted((ROOT / "rules").rglob("*.toml"))]
    rules += [(path.name, path.read_text()) for path in sorted((ROOT / "rules").rglob("[a-z]*.py"))][:8]
    return Seeds(models, tuple(documents), tuple(rules))


def arrays(folder: Path, model: onnx.ModelProto) -> Path:
    """A file of samples for the inputs of a model."""
    shapes = {
        i.name: [max(1, min(d.dim_value, 64)) for d in i.type.tensor_type.shape.dim]
        for i in model.graph.input
        if i.name
    }
    path = folder / "data.npz"
    with path.open("wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            **{name.replace("/", "_"): np.ones(shape, np.float32) for name, shape in shapes.items()},
        )
    return path

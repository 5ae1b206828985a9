"""Builds and measures engines with OpenVINO on the CPU, the only builder here that runs INT8 without a GPU.

OpenVINO has its own fusion rules, so it does not predict TensorRT. It measures the effect of a Q/DQ placement on an
INT8 engine.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from ...errors import EngineError
from ...extras import install_hint
from ...graph.graph import Graph
from ..layers import UNKNOWN, Cause, Engine, Layer, Tensor, Times
from ..read.formats import precision
from ..read.names import is_quantizer
from . import child
from .how import Build, shape_notes, shapes

TYPES = {"f32": "FP32", "f16": "FP16", "bf16": "BF16", "i8": "INT8", "u8": "UINT8", "i32": "INT32", "i64": "INT64"}
QUIET = frozenset({"Input", "Parameter", "Output", "Result", "Const", "Constant"})


def require() -> None:
    """Checks that OpenVINO is installed.

    Raises:
        EngineError: it is not.
    """
    if importlib.util.find_spec("openvino") is None:
        raise EngineError(f"openvino is not installed: {install_hint('openvino')}")


def build(graph: Graph, model: Path, how: Build) -> Engine:
    """Compiles an engine with OpenVINO for this CPU and measures the time of each layer.

    Args:
        graph: the graph of the model.
        model: the model file.
        how: shapes and limits of the build; the mode must be "qdq".

    Raises:
        EngineError: OpenVINO is not installed, refused the model, crashed or exceeded a limit.
    """
    require()
    if how.mode != "qdq":
        raise EngineError(f"--mode {how.mode}: OpenVINO uses the types of the file; use --mode qdq")
    chosen = shapes(graph, how.shapes)
    job = {"model": str(model.resolve()), "shapes": {name: list(dims) for name, dims in chosen.items()}}
    with child.built("openvino_child", "openvino", job, how) as (_, result):
        notes = (*shape_notes(chosen), f"measured on this CPU, {result['device']}; it does not show how TensorRT fuses")
        times = Times(result["runs"], result["median_ms"], result["median_ms"])
        rows = [row for row in result["layers"] if row["kind"] not in QUIET and row["inputs"]]
        return Engine(model.name, f"OpenVINO {result['version']}", tuple(map(_layer, rows)), (), times, notes)


def _layer(row: dict[str, Any]) -> Layer:
    named = tuple(n for n in row["nodes"] if n)
    inputs, outputs = (tuple(_tensor(*t) for t in row[side]) for side in ("inputs", "outputs"))
    cause: Cause = ""
    if row["kind"] == "Reorder":
        cause = "type" if {t.precision for t in inputs} != {t.precision for t in outputs} else "layout"
    elif row["kind"] in ("FakeQuantize", "Quantize") or (named and all(map(is_quantizer, named))):
        cause = "Q/DQ"
    return Layer(
        row["name"],
        row["kind"],
        tuple(n for n in named if not is_quantizer(n)),
        tuple(n for n in named if is_quantizer(n)),
        inputs,
        outputs,
        _kind(row["precision"]).replace("UINT8", "INT8"),  # the type of its input; the weights are signed
        cause,
        row["ms"],
        row["tactic"],
    )


def _tensor(name: str, dims: list[int], kind: str) -> Tensor:
    return Tensor(name, tuple(dims), _kind(kind))


def _kind(word: str) -> str:
    found = TYPES.get(word.lower(), precision(word))
    return found if found != UNKNOWN else word

"""Scales that no quantizer should write: every call says so, or works, without a warning of NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import qdqgraph
from tests.support.cases import FOLDER, read

RULES = qdqgraph.rules()
CALLS: dict[str, Callable[[onnx.ModelProto], object]] = {
    "check": lambda model: qdqgraph.check(model, RULES),
    "fix": lambda model: qdqgraph.fix(model, RULES, also=("QDQ403",), numerics=True),
    "strip": lambda model: qdqgraph.strip(model, ["*"]),
    "fp16": qdqgraph.to_fp16,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-40, 3e38])
@pytest.mark.parametrize(
    "name", ["09-depthwise", "20-nan-scale", "19-int4-old-opset-21", "21-boxes-and-scores", "26-no-zero-point"]
)
def test_an_impossible_scale_causes_no_warning(name: str, scale: float, call: str) -> None:
    model = read(FOLDER / f"{name}.onnxtxt").model
    for tensor in model.graph.initializer:
        if any(
            node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[1] == tensor.name
            for node in model.graph.node
        ):
            values = numpy_helper.to_array(tensor).copy()
            values.reshape(-1)[-1] = scale
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            CALLS[call](model)
        except qdqgraph.QdqgraphError as error:
            assert "QDQ403" in str(error) or "ONNX" in str(error) or "onnx" in str(error), error

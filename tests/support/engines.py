"""Models that tests build engines from."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qdqgraph.engines.builders.builder import built
from qdqgraph.engines.builders.how import Build
from qdqgraph.engines.layers import Layer

CHAIN = """g (float[1,4,16,16] x) => (float[1,4,16,16] y) {
    a = t.conv4 (x, s1)
    b = Relu (a)
    p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (b)
    y = t.conv4 (p, s2)
}"""
"""Two INT8 convolutions with a pool between them."""


def written(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file."""
    file = folder / "model.onnx"
    onnx.save(model, file)
    return file


def builds(model: onnx.ModelProto, folder: Path) -> tuple[Layer, ...]:
    """The layers of the engine that TensorRT-RTX builds from the model; the test skips where it is not installed."""
    pytest.importorskip("tensorrt_rtx")
    return built(written(model, folder), "tensorrt-rtx", Build()).layers


def illegal(zero: int, scale: float, op: str = "") -> onnx.ModelProto:
    """A pair with this zero-point and scale in front of an operator."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="in_q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="in_dq"),
        helper.make_node(op or "Relu", ["d"], ["y"], name="last", domain="my" if op else ""),
    ]
    parameters = [
        numpy_helper.from_array(np.array(scale, np.float32), "s"),
        numpy_helper.from_array(np.array(zero, np.int8), "z"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], parameters)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my", 1)], ir_version=8
    )

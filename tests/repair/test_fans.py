"""A tensor with many readers, each with its own pair, ends with one Q."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qdqgraph


def fan(readers: int, scales: tuple[float, ...]) -> onnx.ModelProto:
    arrays = {"z": np.int8(0), "w": np.ones((1, 1, 1, 1), np.int8), "sw": np.float32(0.01)}
    nodes = [helper.make_node("Relu", ["x"], ["a"])]
    for i in range(readers):
        arrays[f"s{i}"] = np.float32(scales[i % len(scales)])
        nodes += [
            helper.make_node("QuantizeLinear", ["a", f"s{i}", "z"], [f"q{i}"]),
            helper.make_node("DequantizeLinear", [f"q{i}", f"s{i}", "z"], [f"d{i}"]),
            helper.make_node("DequantizeLinear", ["w", "sw", "z"], [f"k{i}"]),
            helper.make_node("Conv", [f"d{i}", f"k{i}"], [f"y{i}"]),
        ]
    shape = [1, 1, 4, 4]
    outputs = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, shape) for i in range(readers)]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "fan", [x], outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("scales", [(0.1,), (0.1, 0.13)])
@pytest.mark.parametrize("readers", [1, 2, 3, 20, 21, 22, 50, 200])
def test_a_fan_becomes_one_quantizer(readers: int, scales: tuple[float, ...]) -> None:
    result = qdqgraph.fix(fan(readers, scales))
    assert sum(node.op_type == "QuantizeLinear" for node in result.model.graph.node) == 1
    again = qdqgraph.fix(result.model)
    assert again.model.SerializeToString(deterministic=True) == result.model.SerializeToString(deterministic=True)

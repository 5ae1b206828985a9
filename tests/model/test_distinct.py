"""A repaired file has no constants whose names ONNX Runtime makes again when it loads the file."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import qdqgraph
from qdqgraph.model.distinct import distinct

NAME = "gemm_output_shape"
FUSED = f"""<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4,8] x) => (float[1,4,8] y, float[1,4,8] v) <float s = {{0.1}}, int8 z = {{0}}, float[8] b = {{1,2,3,4,5,6,7,8}},
    float sw = {{0.01}}, int64[3] shape = {{1, 4, 8}}, int64[3] {NAME} = {{1, 4, 8}},
    int64[2] flat = {{4, 8}}> {{
    f = Reshape (x, flat) v = Reshape (f, shape) n = Neg (f) u = Reshape (n, {NAME})
    q = QuantizeLinear (u, s, z) d = DequantizeLinear (q, s, z) k = DequantizeLinear (w, sw, z)
    m = MatMul (d, k) i = QuantizeLinear (m, s, z) o = DequantizeLinear (i, s, z) a = Add (o, b)
    j = QuantizeLinear (a, s, z) p = DequantizeLinear (j, s, z) l = DequantizeLinear (w, sw, z) y = MatMul (p, l) }}"""
"""What quant_pre_process leaves: a Reshape with a constant of its fusion, and a MatMul that it did not fuse."""


def preprocessed() -> onnx.ModelProto:
    model = onnx.parser.parse_model(FUSED)
    weights = np.arange(-32, 32, dtype=np.int8).reshape(8, 8)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return model


def load(model: onnx.ModelProto) -> None:
    """Loads a model with the default optimizations."""
    ort = pytest.importorskip("onnxruntime")
    ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_onnxruntime_loads_the_repaired_file_as_it_loads_the_given_one() -> None:
    model = preprocessed()
    load(model)
    result = qdqgraph.fix(model)
    load(result.model)
    assert f"{NAME}_kept" in {t.name for t in result.model.graph.initializer}
    assert result.plan.inverse().apply(result.model) == model and qdqgraph.fix(result.model).model == result.model


def test_inputs_outputs_and_all_other_names_are_kept() -> None:
    model = preprocessed()
    del model.graph.initializer[[t.name for t in model.graph.initializer].index(NAME)]
    assert distinct(model) is model
    model.graph.input.append(onnx.helper.make_tensor_value_info(NAME, onnx.TensorProto.INT64, [3]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 4, 8]), NAME))
    assert distinct(model) is model


def test_subgraphs_read_the_new_name() -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[4] x, bool c) => (float[2,2] y)
        <int64[2] {NAME} = {{2, 2}}, int64[2] {NAME}_kept = {{4, 1}}> {{
        y = If (c) <then_branch = t () => (float[2,2] a) {{ a = Reshape (x, {NAME}) }},
                    else_branch = e () => (float[2,2] b) {{ b = Reshape (x, {NAME}) }}> }}"""
    )
    new = distinct(model)
    onnx.checker.check_model(new, full_check=True)
    read = {node.input[1] for a in new.graph.node[0].attribute for node in a.g.node}
    assert read == {f"{NAME}_kept_1"} and len(new.graph.initializer) == 2

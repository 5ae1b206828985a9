"""Legality repairs on odd files: old operator sets, shared parts, integers of other kinds, settings that are none."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.model import runtime
from qdqgraph.rulekit import Graph, pairs
from qdqgraph.verify import comparison
from tests.support.models import build

X = "float[1,2,3,3]"


def feed(seed: int = 0, shape: tuple[int, ...] = (1, 2, 3, 3)) -> list[runtime.Feed]:
    return [{"x": np.random.default_rng(seed).uniform(-6, 6, shape).astype(np.float32)}]


def test_the_operator_set_is_raised_where_the_repair_needs_it() -> None:
    """QLinearConv takes scales for each channel since operator set 10, DequantizeLinear since 13."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 5, opset_import: ["" : 11]>
        g ({X} x) => ({X} y) <float s = {{0.1}}, uint8 z = {{128}}, int8[2,2,1,1] w = {{10, -20, 90, 4}},
            float[2] sw = {{0.01, 0.002}}, int8[2] zw = {{0, 0}}> {{
            q = QuantizeLinear (x, s, z)  c = QLinearConv (q, s, z, w, sw, zw, s, z)  y = DequantizeLinear (c, s, z) }}"""
    )
    result = qdqgraph.fix(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert result.model.opset_import[0].version == 13
    assert comparison.compare(model, result.model, feed(), Path())["y"].sqnr > 25
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()


def test_many_products_may_share_one_dynamic_quantization() -> None:
    count = 24
    products = " ".join(
        f"i{n} = MatMulInteger (q, w, z, zw) f{n} = Cast <to = 1> (i{n}) m{n} = Mul (s, sw) y{n} = Mul (f{n}, m{n})"
        for n in range(count)
    )
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x) => ({", ".join(f"float[2,2] y{n}" for n in range(count))})
        <int8[2,2] w = {{64, 32, 16, 8}}, int8 zw = {{0}}, float sw = {{0.01}}> {{
            q, s, z = DynamicQuantizeLinear (x) {products} }}"""
    )
    result = qdqgraph.fix(model)
    found = {n.op_type for n in result.model.graph.node}
    assert found == {"MatMul", "DequantizeLinear"}
    assert comparison.compare(model, result.model, feed(shape=(2, 2)), Path())["y7"].sqnr > 30


def test_without_a_zero_point_nothing_is_decided_for_the_user() -> None:
    """ONNX reads UINT8, TensorRT INT8: the scale after the Identity does not change that."""
    model = build(f"g ({X} x) => ({X} y) {{ i = Identity (s1) q = QuantizeLinear (x, i) y = DequantizeLinear (q, i) }}")
    result = qdqgraph.fix(model)
    assert not result.applied and {f.code for f in result.left} == {"QDQ402", "QDQ409"}
    meant = qdqgraph.fix(model, also=("QDQ402",))
    pair = next(iter(pairs(Graph(meant.model))))
    assert pair.types[1] == "int8" and pair.value == pytest.approx(0.1)


def test_a_channel_that_no_scale_can_hold_takes_the_widest() -> None:
    model = build(
        f"""g ({X} x) => ({X} y) <float s = {{0.1}}, int8 z = {{0}}, float[2,2,1,1] w = {{1.0, -0.5, 1e-40, 0}},
            float sw = {{0.01}}, uint8 zw = {{100}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
            i = QuantizeLinear (w, sw, zw) k = DequantizeLinear (i, sw, zw) y = Conv (d, k) }}"""
    )
    pair = pairs(Graph(qdqgraph.fix(model).model)).made("k")
    assert pair is not None and pair.scale is not None and np.allclose(pair.scale, [1 / 127, 1 / 127])


def test_fp8_and_int4_weights_of_a_float_layer_are_left_alone() -> None:
    for kind in (onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.INT4):
        model = onnx.parser.parse_model(
            f"""<ir_version: 10, opset_import: ["" : 21]>
            g ({X} x) => ({X} y) <float[2,2,1,1] w = {{1, 2, 3, 4}}, float sw = {{0.5}}> {{
                i = QuantizeLinear (w, sw, zw) k = DequantizeLinear (i, sw, zw) y = Conv (x, k) }}"""
        )
        model.graph.initializer.append(onnx.helper.make_tensor("zw", kind, [], [0]))
        assert not qdqgraph.fix(model, weights="int8").plan.edits
        stripped = qdqgraph.strip(model, ["y"]).model
        assert {n.op_type for n in stripped.graph.node} == {"Conv"}


def test_q_dq_of_a_domain_nobody_knows_is_reported_not_renamed() -> None:
    model = build(f"g ({X} x) => ({X} y) {{ q = QuantizeLinear (x, s1) y = DequantizeLinear (q, s1) }}")
    for node in model.graph.node:
        node.domain = "my.domain"
    model.opset_import.append(onnx.helper.make_opsetid("my.domain", 1))
    with pytest.raises(qdqgraph.RepairError, match=r"TensorRT has no QuantizeLinear of domain my\.domain"):
        qdqgraph.fix(model)

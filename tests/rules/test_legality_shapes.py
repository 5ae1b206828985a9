"""Scales and zero-points in forms that TensorRT refuses: several dimensions, and inputs without a name."""

from __future__ import annotations

import math

import onnx
import pytest

import qdqgraph
from qdqgraph.rulekit import Graph, Pair, Severity, pairs

RULES = qdqgraph.rules()


def convolution(scale: str, operator: str = "Conv", axis: int = 0, channels: int = 4) -> onnx.ModelProto:
    """A convolution of weights [3, 4, 1, 1] with scales of these dimensions."""
    count = math.prod(map(int, scale.split(",")))
    scales, zeros = (", ".join(each) for each in ([f"{(i + 1) / 100}" for i in range(count)], ["0"] * count))
    model: onnx.ModelProto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,{channels},8,8] x) => (float[1,c,8,8] y)
        <float s = {{0.1}}, int8 z = {{0}}, int8[3,4,1,1] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 127}},
         float[{scale}] sw = {{{scales}}}, int8[{scale}] zw = {{{zeros}}}>
        {{
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            k = DequantizeLinear <axis = {axis}> (w, sw, zw)
            y = {operator} (d, k)
        }}"""
    )
    return model


def weights(model: onnx.ModelProto) -> Pair:
    (pair,) = (p for p in pairs(Graph(model)) if p.kind == "weight")
    return pair


@pytest.mark.parametrize(
    ("model", "shape", "axis"),
    [
        (convolution("3,1,1,1"), (3,), 0),
        (convolution("1,1,1,1"), (), None),
        (convolution("1,4,1,1", "ConvTranspose", channels=3), (4,), 1),
        (convolution("4,1,1", "ConvTranspose", axis=1, channels=3), (4,), 1),
    ],
)
def test_scales_of_several_dimensions_become_a_vector_or_a_scalar(
    model: onnx.ModelProto, shape: tuple[int, ...], axis: int | None
) -> None:
    result = qdqgraph.fix(model, [rule for rule in RULES if rule.code == "QDQ426"])
    assert [f.code for f in result.applied] == ["QDQ426"] and not result.left
    old, new = weights(model), weights(result.model)
    assert old.scale is not None and new.scale is not None and new.zero_point is not None
    assert (new.scale.shape, new.zero_point.shape, new.axis) == (shape, shape, axis)
    assert new.scale.tobytes() == old.scale.tobytes()
    assert not [f for f in qdqgraph.check(qdqgraph.fix(model, RULES).model, RULES) if f.severity is Severity.ERROR]


@pytest.mark.parametrize("scale", ["3,4,1,1", "3,1", "1,3,1,1"])
def test_scales_that_no_axis_fits_are_an_error_without_a_repair(scale: str) -> None:
    model = convolution(scale)
    (finding,) = (f for f in qdqgraph.check(model, RULES) if f.code == "QDQ426")
    assert finding.severity is Severity.ERROR and not finding.edits
    assert finding.help == "quantize per tensor or along one axis"


def test_an_empty_zero_point_is_removed_whatever_its_integers_are() -> None:
    """Of a QuantizeLinear without a zero-point, ONNX reads UINT8 and TensorRT INT8: what is meant remains a question."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y)
        <float s = {0.1}>
        { q = QuantizeLinear (x, s, "") y = DequantizeLinear (q, s, "") }"""
    )
    result = qdqgraph.fix(model, RULES)
    assert [f.code for f in result.applied] == ["QDQ430", "QDQ430"]
    assert [f.code for f in result.left] == ["QDQ402"]
    assert [list(node.input) for node in result.model.graph.node] == [["x", "s"], ["q", "s"]]


def test_scales_that_fit_no_axis_are_reported_and_not_moved() -> None:
    model = convolution("2")
    with pytest.raises(qdqgraph.RepairError, match=r"2 scales along axis 0; export the weights again"):
        qdqgraph.fix(model, numerics=False)


def test_an_activation_with_more_scales_than_channels_gets_no_clip_of_each_channel() -> None:
    """A Clip to four ranges would give the tensor, which has one channel along that axis, four."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4] s = {0.1, 0.1, 0.1, 0.1}, uint8[4] z = {0, 0, 0, 0}> {
            q = QuantizeLinear <axis = 0> (x, s, z) d = DequantizeLinear <axis = 0> (q, s, z) y = Neg (d) }"""
    )
    onnx.checker.check_model(model, full_check=True)
    (finding,) = (f for f in qdqgraph.check(model) if f.code == "QDQ404")
    assert not finding.repairable and finding.help == "calibrate it per tensor"


@pytest.mark.parametrize("perm", [[0], [1, 0, 2], [1, 1], [-1, 0], [5, 1]])
def test_weights_behind_transposes_that_are_no_permutation_have_no_known_axis(perm: list[int]) -> None:
    """onnx.checker refuses such a file, and `check` reports on it."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2] x) => (float[1,2] y) <float[2] s = {{0.1, 0.2}}, int8[2] z = {{0, 0}}, int8[2,2] w = {{1, 2, 3, 4}},
         float t = {{0.1}}, int8 u = {{0}}> {{
            q = QuantizeLinear (x, t, u) d = DequantizeLinear (q, t, u) k = DequantizeLinear <axis = 0> (w, s, z)
            a = Transpose <perm = {perm}> (k) b = Transpose <perm = [1, 0]> (a) y = MatMul (d, b) }}"""
    )
    assert "QDQ901" not in {f.code for f in qdqgraph.check(model)}

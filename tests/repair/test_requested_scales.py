"""What data do for pairs that are repaired on request."""

import qdqgraph
from qdqgraph.graph.graph import Graph
from qdqgraph.graph.pair import pairs
from qdqgraph.model.text import parse
from qdqgraph.report.results import Result
from tests.support.samples import uniform as data

DEPTHWISE = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,4,4] x) => (float[1,2,4,4] y)
    <float s = {0.01}, int8 z = {0}, float[2] sc = {0.01, 0.001}, int8[2] zc = {0, 0},
     int8[2,2,1,1] w = {64, 1, 2, 3}, int8[2,1,1,1] v = {64, 32}, float sw = {0.01}>
    {
        k = DequantizeLinear (w, sw, z)
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        c = Conv (d, k)
        r = Relu (c)
        p = QuantizeLinear <axis = 1> (r, sc, zc)
        e = DequantizeLinear <axis = 1> (p, sc, zc)
        l = DequantizeLinear (v, sw, z)
        y = Conv <group = 2> (e, l)
    }"""
"""A depthwise convolution whose data has scales per channel, as NNCF writes it; they are 3.3 bits apart (QDQ404)."""


def scales(result: Result) -> dict[str, float]:
    return {p.site: p.value for p in pairs(Graph(result.model)) if p.kind == "activation"}


def test_a_depthwise_convolution_whose_pair_tensorrt_refuses_gets_a_measured_one_on_request() -> None:
    """The pair is removed, because one scale is too coarse for one of the channels; data do not change that."""
    model = parse(DEPTHWISE)
    without, result = qdqgraph.fix(model, data=data(model)), qdqgraph.fix(model, data=data(model), also=["QDQ208"])
    assert [(f.code, f.place) for f in without.left] == [("QDQ208", "y")]
    assert not result.left and set(scales(result)) == {"x", "r"}
    assert [share.int8 for share in without.int8 or ()] == [2, 1]
    assert [share.int8 for share in result.int8 or ()] == [2, 2]


def test_another_convolution_with_int8_weights_gets_a_measured_pair() -> None:
    model = parse(
        DEPTHWISE.replace("<group = 2> (e", "(e")
        .replace("int8[2,1,1,1] v = {64, 32}", "int8[1,2,1,1] v = {64, 32}")
        .replace("(float[1,2,4,4] y)", "(float[1,1,4,4] y)")
    )
    result = qdqgraph.fix(model, data=data(model))
    assert not result.left and set(scales(result)) == {"x", "r"}


def test_pairs_that_become_int8_on_request_get_measured_scales_in_the_first_run() -> None:
    """Without a zero-point they are UINT8 in ONNX; scales are measured for INT8 pairs."""
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y)
        <float s = {0.5}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}> {
            k = DequantizeLinear (w, sw, z)
            q = QuantizeLinear (x, s) d = DequantizeLinear (q, s) y = Conv (d, k)
        }""")
    result = qdqgraph.fix(model, data=data(model), also=["QDQ402"])
    assert scales(result)["x"] < 0.5
    assert qdqgraph.fix(result.model, data=data(model), also=["QDQ402"]).model == result.model

"""Casts between floating-point types: the view leaves them out, so a half-precision pair is at the tensor it quantizes."""

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.graph.pair import rounded_equal
from qdqgraph.rulekit import Graph, key, pairs, sites

SANDWICH = """
<ir_version: 8, opset_import: ["" : 17]>
g (float16[1,1,4,4] x) => (float16[1,1,4,4] y, float16[1,1,4,4] v)
<float s = {0.125}, int8 z = {0}, int8[1,1,1,1] w = {64}>
{
    f = Cast <to = 1> (x)
    q = QuantizeLinear (f, s, z)
    d = DequantizeLinear (q, s, z)
    h = Cast <to = 10> (d)
    k = DequantizeLinear (w, s, z)
    kh = Cast <to = 10> (k)
    y = Conv (h, kh)
    v = Relu (x)
}"""


def test_a_pair_between_casts_is_at_the_tensor_before_them() -> None:
    graph = Graph(onnx.parser.parse_model(SANDWICH))
    (pair,) = pairs(graph).at("x")
    assert (pair.tensor, pair.site, pairs(graph).root("h")) == ("x", "x", "x")
    assert [(use.reader.node.op, use.pair) for use in sites(graph).uses("x")] == [("Conv", pair), ("Relu", None)]


def test_the_view_has_no_casts_and_knows_their_names() -> None:
    graph = Graph(onnx.parser.parse_model(SANDWICH))
    assert [node.op for node in graph.nodes()] == ["QuantizeLinear", *["DequantizeLinear"] * 2, "Conv", "Relu"]
    assert graph.casts == {"f": "x", "h": "d", "kh": "k"}
    assert graph.producer("h") is graph.node("d") and graph.readers("f") == graph.readers("x")
    conv = graph.node("y")
    assert [t.name for t in conv.inputs] == ["d", "k"] and list(graph.proto(conv).input) == ["h", "kh"]
    assert graph.position(conv) == 6


def test_a_chain_of_casts_is_one_tensor_and_an_output_is_the_tensor_before_its_cast() -> None:
    graph = Graph(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[2] x) => (float[2] y) {
                a = Cast <to = 10> (x)  b = Cast <to = 1> (a)  c = Relu (b)  e = Cast <to = 16> (c)  y = Cast <to = 1> (e) }"""
        )
    )
    assert graph.casts == {"a": "x", "b": "x", "e": "c", "y": "c"}
    assert graph.outputs == {"c"} and [key(n) for n in graph.nodes()] == ["c"]


@pytest.mark.parametrize(
    "body",
    {
        "of integers": "c = Cast <to = 6> (x)  y = Cast <to = 1> (c)",
        "of a constant": "c = Cast <to = 10> (w)  e = Cast <to = 1> (c)  y = Mul (x, e)",
    }.values(),
    ids=["of integers", "of a constant"],
)
def test_other_casts_stay(body: str) -> None:
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) <float[2] w = {{1, 2}}> {{ {body} }}'
    )
    graph = Graph(onnx.parser.parse_model(text))
    assert not graph.casts and len(graph.nodes("Cast")) == 2


def test_a_subgraph_reads_the_tensor_before_the_cast() -> None:
    graph = Graph(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float16[2] x, bool b) => (float[2] y) {
                a = Cast <to = 1> (x)
                y = If (b) <then_branch = t () => (float[2] p) { p = Relu (a) },
                            else_branch = e () => (float[2] q) { q = Neg (a) }> }"""
        )
    )
    assert [(r.node.op, r.index) for r in graph.readers("x")] == [("If", -1)]


def test_a_computed_weight_is_rounded_by_the_casts_on_its_path() -> None:
    graph = Graph(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[1] x) => (float[1] y)
            <float s = {0.1}, int8 z = {0}, int8[1] w = {33}, float[1] g = {1}> {
                k = DequantizeLinear (w, s, z)  h = Cast <to = 10> (k)  f = Cast <to = 1> (h)
                m = Mul (f, g)  y = Add (x, m) }"""
        )
    )
    rounded = np.float32(np.float16(np.float32(33) * np.float32(0.1)))
    assert graph.is_constant("m") and graph.is_constant("f")
    assert graph.value("m") == graph.value("f") == rounded != graph.value("k")


def test_scales_of_one_pair_may_be_equal_numbers_in_two_types() -> None:
    graph = Graph(
        onnx.parser.parse_model(
            """<ir_version: 9, opset_import: ["" : 19]>
            g (float[1,4] x) => (float16[1,4] y)
            <float s = {0.125}, float16 t = {0x3000}, int8 z = {0}> {
                q = QuantizeLinear (x, s, z)  y = DequantizeLinear (q, t, z) }""".replace(
                "0x3000", "12288"
            )  # 0.125 in FP16, as its bits
        )
    )
    (pair,) = pairs(graph)
    assert pair.agrees and pair.tieable and pair.scale_types == {"float32", "float16"}


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (np.float32(0.02), np.float16(0.02), True),
        (np.float16(0.02), np.float32(0.02), True),
        (np.float32(0.02), np.nextafter(np.float16(0.02), np.float16(1)), False),
        (np.float32(0.02), np.float32(np.float16(0.02)), False),
        (np.float32(1e-9), np.float16(0), False),
        (np.float32(1e9), np.float16(np.inf), False),
        (np.float32(1e-7), np.float16(1e-7), False),
    ],
)
def test_a_scale_in_two_types_is_one_scale_but_for_rounding(first: np.generic, second: np.generic, equal: bool) -> None:
    assert rounded_equal(np.asarray(first), np.asarray(second)) is equal


@pytest.mark.parametrize(
    ("opset", "attributes", "left_out"),
    [(17, "to = 10, axes = 1", False), (17, "to = 10, saturate = 1", False), (19, "to = 10, saturate = 1", True)],
)
def test_a_cast_that_the_checker_refuses_stays_and_is_reported(opset: int, attributes: str, left_out: bool) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[2] x) => (float[2] y) <float s = {{0.1}}, int8 z = {{0}}> {{
            a = Cast <{attributes}> (x)  b = Cast <to = 1> (a)  q = QuantizeLinear (b, s, z)  y = DequantizeLinear (q, s, z) }}"""
    model = onnx.parser.parse_model(text)
    assert ("a" in Graph(model).casts) is left_out
    assert [f.place for f in qdqgraph.check(model) if f.code == "QDQ420"] == ([] if left_out else ["a"])

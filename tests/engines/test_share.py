"""What runs in INT8: which layers count, what the numbers say, and what a user must be told with them."""

import onnx
import pytest

import qdqgraph
from qdqgraph.api import check
from qdqgraph.engines.share import Int8Share
from qdqgraph.operators import is_weighted
from tests.support.models import build

FLOAT = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] w> {
    p = t.pair (x, s1) r = Relu (p) y = Conv (r, w) }"""

DYNAMIC = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,8,8] x) => (float[1,4,8,8] y)
    <int8[4,4,1,1] w, int8 zw = {0}, float sw = {0.01}> {
    q, s, z = DynamicQuantizeLinear (x) i = ConvInteger (q, w, z, zw) f = Cast <to = 1> (i) m = Mul (s, sw) a = Mul (f, m)
    r, t, u = DynamicQuantizeLinear (a) j = ConvInteger (r, w, u, zw) g = Cast <to = 1> (j) n = Mul (t, sw)
    y = Mul (g, n) }"""
"""Dynamic quantization: integer convolutions with scales computed at run time."""


def filled(text: str) -> onnx.ModelProto:
    """The model, with random values for the weights whose text gives none."""
    return build(text.replace("float[4,4,1,1] w", f"float[4,4,1,1] w = {{{', '.join(['0.5'] * 16)}}}"))


def dynamic() -> onnx.ModelProto:
    return onnx.parser.parse_model(DYNAMIC.replace("int8[4,4,1,1] w", f"int8[4,4,1,1] w = {{{', '.join(['3'] * 16)}}}"))


def test_the_forecast_counts_layers_tensors_and_bytes() -> None:
    share = check(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = t.conv4 (x, s1) y = t.conv4 (a, s2) }")).int8
    assert (share.weighted, share.int8, share.tensors, share.unsized) == (2, 2, 2, 0)
    read_and_written = (1024 + 256) + (256 + 256) + (256 + 1024)
    assert share.bytes == read_and_written
    assert share.sentence == "2 of 2 weighted layers in INT8, 2 INT8 tensors, 3,072 bytes (forecast for trt-10)"


def test_a_product_of_two_activations_is_a_weighted_layer() -> None:
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) {{ a = Relu (x) {} y = MatMul (p, q)
        v = MatMul (a, x) }}"""
    share = check(build(text.format("p = t.pair (a, s1) q = t.pair (x, s2)"))).int8
    assert (share.weighted, share.int8) == (2, 1)


@pytest.mark.parametrize(
    "name",
    ["ConvInteger", "QLinearConv", "MatMulInteger", "QGemm", "FusedConv", "MatMulNBits", "DynamicQuantizeMatMul"],
)
def test_variants_of_a_weighted_operator_are_weighted_layers(name: str) -> None:
    assert is_weighted(name) and not is_weighted("QLinearAdd") and not is_weighted("MaxPool")


def test_a_dynamic_dimension_is_named_with_the_bytes_that_it_hides() -> None:
    model = build('g (float[1,4,"h","w"] x) => (float[1,4,"h","w"] y) { y = t.conv4 (x, s1) }')
    assert (
        "1 of 1 weighted layers in INT8, 1 INT8 tensors, 0 bytes and 3 tensors of unknown size"
        in check(model).int8.sentence
    )


def test_a_file_whose_weighted_layers_run_in_float_says_so() -> None:
    share = check(filled(FLOAT)).int8
    assert share.sentence.startswith("0 of 1 weighted layers in INT8, ")
    assert share.sentence.endswith("; no weighted layer runs in INT8")


def test_dynamic_quantization_counts_its_layers_before_and_none_in_int8_after() -> None:
    before = check(dynamic()).int8
    assert (before.weighted, before.int8, before.refused) == (2, 0, ("QDQ407", "QDQ411"))
    assert "if TensorRT did not refuse this file: QDQ407, QDQ411" in before.sentence
    result = qdqgraph.fix(dynamic())
    assert result.int8 is not None
    old, new = result.int8
    assert old == before and (new.weighted, new.int8, new.refused) == (2, 0, ())


def test_fewer_layers_in_int8_are_worse_then_more_bytes_unless_the_other_file_is_refused() -> None:
    share = Int8Share("forecast for trt-10", 5, 4, 9, 1000)
    assert share.worse_than(share) == ""
    assert Int8Share(share.source, 5, 3, 9, 10).worse_than(share) == "would take 1 of 5 weighted layers out of INT8"
    assert Int8Share(share.source, 5, 4, 9, 1001).worse_than(share) == "would add 1 bytes a run"
    refused = Int8Share(share.source, 5, 4, 9, 1000, refused=("QDQ401",))
    assert Int8Share(share.source, 5, 4, 9, 1001).worse_than(refused) == ""

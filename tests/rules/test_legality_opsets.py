"""Nodes that do not fit the opset of their model: rewritten, or the opset is raised, with the reason."""

import onnx
import pytest

import qdqgraph
from qdqgraph.graph.graph import Graph
from qdqgraph.graph.pair import required_opset
from qdqgraph.model.text import parse

HEAD = """<ir_version: 8, opset_import: ["" : %d]>
g (float[1,4,8,8] x) => (float%s y) <float s = {0.1}, int8 z = {0}%s> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) %s }"""


def model(opset: int, shape: str, body: str, constants: str = "") -> onnx.ModelProto:
    """A model that onnx.checker rejects."""
    made = onnx.parser.parse_model(HEAD % (opset, shape, constants, body))
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        onnx.checker.check_model(made, full_check=True)
    return made


EARLIER = {
    "Clip": (13, "[1,4,8,8]", "y = Clip <min = 0.0, max = 6.0> (d)", ""),
    "Squeeze": (13, "[4,8,8]", "y = Squeeze <axes = [0]> (d)", ""),
    "ReduceSum": (13, "[1,1,8,8]", "y = ReduceSum <axes = [1], keepdims = 1> (d)", ""),
    "ReduceMean": (18, "[1,1,8,8]", "y = ReduceMean <axes = [1], keepdims = 1> (d)", ""),
    "Split": (13, "[1,2,8,8]", "y, b = Split <axis = 1, split = [2, 2]> (d)", ""),
    "Pad": (13, "[1,4,10,10]", "y = Pad <pads = [0,0,1,1,0,0,1,1], value = 0.5> (d)", ""),
    "Slice": (13, "[1,2,8,8]", "y = Slice <starts = [0], ends = [2], axes = [1]> (d)", ""),
    "TopK": (13, "[1,2,8,8]", "y, i = TopK <k = 2, axis = 1> (d)", ""),
    "Dropout": (13, "[1,4,8,8]", "y = Dropout <ratio = 0.5> (d)", ""),
    "BatchNormalization": (
        13,
        "[1,4,8,8]",
        "y = BatchNormalization <spatial = 1> (d, g, g, g, g)",
        ", float[4] g = {1,1,1,1}",
    ),
    "Upsample": (13, "[1,4,16,16]", 'y = Upsample <mode = "nearest"> (d, k)', ", float[4] k = {1,1,2,2}"),
}


@pytest.mark.parametrize("op", EARLIER)
def test_a_node_of_an_earlier_opset_is_rewritten(op: str) -> None:
    before = model(*EARLIER[op])
    (finding,) = [f for f in qdqgraph.check(before) if f.code == "QDQ420"]
    assert finding.place == "y" and finding.message.startswith(f"the {op} is invalid in opset {EARLIER[op][0]}: ")
    result = qdqgraph.fix(before)
    onnx.checker.check_model(result.model, full_check=True)
    assert "QDQ420" in {f.code for f in result.applied} and not result.left and result.opset is None
    assert result.plan.inverse().apply(result.model) == before


@pytest.mark.parametrize(
    ("opset", "raised", "shape", "body", "constants"),
    [
        (13, 18, "[1,1,8,8]", "y = ReduceMean (d, a)", ", int64[1] a = {1}"),
        (11, 13, "[1,1,4,8,8]", "y = Unsqueeze (d, a)", ", int64[1] a = {0}"),
        (10, 11, "[1,4,8,8]", "y = Clip (d, a)", ", float a = {0}"),
        (17, 20, "[1,1,8,8]", "e = ReduceMean <axes = [1]> (d) y = Gelu (e)", ""),
    ],
)
def test_a_node_of_a_later_opset_raises_the_opset(
    opset: int, raised: int, shape: str, body: str, constants: str
) -> None:
    before = model(opset, shape, body, constants)
    (finding,) = qdqgraph.check(before)
    assert f"raise the opset to {raised}" in finding.help
    result = qdqgraph.fix(before)
    assert result.opset is not None
    assert (result.opset.before, result.opset.after) == (opset, raised)
    assert f"is written for opset {raised}" in result.opset.why
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.inverse().apply(result.model) == before


def test_blocks_raise_the_opset_and_the_numeric_check_says_what_it_compares() -> None:
    pytest.importorskip("onnxruntime")
    body = "k = DequantizeLinear <axis = 0, block_size = 2> (w, b) y = MatMul (d, k)"
    constants = ", int8[8,2] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}, float[4,2] b = {1,1,1,1,1,1,1,1}"
    before = model(17, "[1,4,8,2]", body, constants)
    result = qdqgraph.fix(before, numerics=True)
    assert result.opset is not None and result.opset.after == 21
    assert result.numbers is not None and not result.numbers.outputs
    assert "the repaired model runs, and is the input in opset 21" in result.numbers.skipped
    half = qdqgraph.fix(before, numerics=True, fp16=True)
    assert half.numbers is not None and half.numbers.reference == "the input in opset 21"
    assert half.numbers.outputs["y"].sqnr > 40


def test_a_fault_without_a_repair_is_reported_and_the_file_is_written() -> None:
    before = model(15, "[1,4,8,8]", "y, a, b, c, e = BatchNormalization (d, g, g, g, g)", ", float[4] g = {1,1,1,1}")
    (left,) = qdqgraph.fix(before).left
    assert left.code == "QDQ420" and "output size 5 not in range" in left.message


def test_other_domains_and_external_data_are_not_invalid() -> None:
    made = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "acme" : 1, "com.microsoft" : 1]>
        g (float[1,4] x) => (float[1,4] y) <float s = {0.1}, int8 z = {0}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) a = acme.Op <k = 3> (d) y = com.microsoft.FastGelu (a) }"""
    )
    tensor = made.graph.initializer.add(name="w", data_type=1, dims=[1024, 1024, 1024])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="missing.bin")
    assert "QDQ420" not in {f.code for f in qdqgraph.check(made)}


def test_weights_of_an_integer_product_raise_the_opset_in_the_first_run() -> None:
    """ONNX allows INT8 and UINT8 here, which no checker says; as pairs, the weights are legal in a later opset."""
    before = parse("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2] x) => (float[1,2] y) <int4[2,2] w = {33, 67}, int4 zw = {0}, float sw = {0.01}> {
            q, s, z = DynamicQuantizeLinear (x) i = MatMulInteger (q, w, z, zw) f = Cast <to = 1> (i)
            m = Mul (s, sw) y = Mul (f, m) }""")
    result = qdqgraph.fix(before, target="trt-11")
    assert result.opset is not None and (result.opset.before, result.opset.after) == (17, 21)
    assert result.opset.why == "the DequantizeLinear 'y_weights' needs opset 21"
    onnx.checker.check_model(result.model, full_check=True)
    again = qdqgraph.fix(result.model, target="trt-11")
    assert not again.plan.edits and result.plan.inverse().apply(result.model) == before


@pytest.mark.parametrize(("kind", "opset"), [("float8e4m3fn", 19), ("float8e5m2", 19)])
def test_pairs_of_a_type_that_came_later_raise_the_opset(kind: str, opset: int) -> None:
    before = parse(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4] x) => (float[1,4] y) <float s = {{0.1}}, {kind} z = {{0}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Relu (d) }}""")
    graph = Graph(before)
    assert [required_opset(graph, node) for node in graph.nodes("QuantizeLinear", "DequantizeLinear")] == [opset] * 2


def test_a_model_that_imports_no_opset_of_onnx_gets_one() -> None:
    before = parse("""<ir_version: 8, opset_import: ["" : 13]>
        g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {1, 2, 3, 4}, float[2] sw = {0.1, 0.2}, int8[2] zw = {0, 0}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
            k = DequantizeLinear <axis = 0> (w, sw, zw) y = Conv (d, k) }""")
    before.opset_import[0].domain = "other"
    result = qdqgraph.fix(before)
    assert result.opset is not None and (result.opset.before, result.opset.after) == (1, 13)
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.inverse().apply(result.model) == before

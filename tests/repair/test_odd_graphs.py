"""Graphs that once went wrong, or easily could: each ends valid, settled and bit-exact where it promises that."""

from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph.calibration.noise import noise
from qdqgraph.errors import ModelError
from qdqgraph.verify import comparison
from tests.support.models import build, fixed

X = "float[1,4,8,8] x"
PADS = "int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, int8 z = {0}"

GRAPHS = {
    "a DequantizeLinear that is a graph output, and feeds MatMul and a pool": f"""
        g ({X}) => (float[1,4,8,8] d, float[1,4,8,8] y, float[1,4,8,8] v) <float[8,8] w = {{{", ".join(["0.1"] * 64)}}}> {{
            d = t.pair (x, s1)  y = MatMul (d, w)
            m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (d)  v = t.conv4 (m, s2) }}""",
    "a convolution with float weights": f"""
        g ({X}) => (float[1,4,8,8] y) <float[4,4,1,1] w = {{{", ".join(["0.3"] * 16)}}}> {{
            d = t.pair (x, s1)  c = Conv (d, w)  a = Add (c, x)  y = t.conv4 (a, s2) }}""",
    "two Pads of one tensor, quantized with different scales": f"""
        g ({X}) => (float[1,4,10,10] y, float[1,4,10,10] v) <{PADS}, float tiny = {{0.013}}> {{
            a = Relu (x)
            p = Pad (a, pads)  y = t.conv4 (p, s1)
            q = Pad (a, pads)  v = t.conv4 (q, tiny) }}""",
    "a DequantizeLinear that does not undo its QuantizeLinear": f"""
        g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v) <int8 z = {{0}}> {{
            q = QuantizeLinear (x, s1, z)  y = DequantizeLinear (q, s2, z)
            c = Concat <axis = 1> (x, x)  v = t.conv8 (c, s1) }}""",
    "a quantization without a zero-point beside INT8 ones": f"""
        g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v) {{
            a = Relu (x)  m = MaxPool <kernel_shape = [1, 1]> (a)
            q = QuantizeLinear (m, s1)  y = DequantizeLinear (q, s1)
            c = Concat <axis = 1> (a, a)  v = t.conv8 (c, s1) }}""",
    "a pair whose integers are an output": f"""
        g ({X}) => (int8[1,4,8,8] q, float[1,4,8,8] v) <int8 z = {{0}}> {{
            q = QuantizeLinear (x, s1, z)  v = t.conv4 (x, s2) }}""",
    "integers that enter the network": """
        g (int8[1,4,8,8] i, float[1,4,8,8] x) => (float[1,4,8,8] v) <int8 z = {0}> {
            d = DequantizeLinear (i, s1, z)  c = Concat <axis = 1> (d, x)  v = t.conv8 (c, s2) }""",
    "a node whose first output is not used": """
        g (float[1,4,8,8] x, float[2,1,3] u, float[1,8,3] w, float[1,8,2] r) => (float[1,4,8,8] y, float[1,1,2] h) {
            , h = LSTM <hidden_size = 2> (u, w, r)
            m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)
            c = Concat <axis = 1> (x, m)  y = t.conv8 (c, s1) }""",
    "a Concat of one tensor with itself and with a constant": f"""
        g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v) <float[1] one = {{1}}, int64[4] dims = {{1, 4, 8, 8}}> {{
            a = Relu (x)  k = Expand (one, dims)
            c = Concat <axis = 1> (a, a)  y = t.conv8 (c, s1)
            e = Concat <axis = 1> (a, k, a)  v = t.conv12 (e, s2) }}""",
}


@pytest.mark.parametrize("text", GRAPHS.values(), ids=GRAPHS)
def test_odd_graphs(text: str) -> None:
    model = build(text)
    fixed(model)
    exact = fixed(model, exact=True)
    agreement = comparison.compare(model, exact.model, noise(model, 2), Path())
    assert all(a.identical for a in agreement.values())


def test_a_long_chain_of_pools_settles_at_once() -> None:
    pools = " ".join(f"p{i + 1} = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (p{i})" for i in range(60))
    result = fixed(build(f"g ({X}) => (float[1,4,8,8] y) {{ p0 = t.pair (x, s1) {pools} y = t.conv4 (p60, s1) }}"))
    assert result.pairs_added == 59


def test_shape_arithmetic_is_no_data_flow() -> None:
    text = f"""g ({X}) => (float[A,B] y) <int64 one = {{1}}, int64[1] rest = {{-1}}, int64[1] first = {{0}}> {{
        d = t.pair (x, s1)  h = Shape (d)  n = Gather (h, one)  m = Mul (n, n)  u = Unsqueeze (m, first)
        to = Concat <axis = 0> (u, rest)  y0 = Reshape (d, to)  y = t.pair (y0, s1) }}"""
    model = build(text)
    assert not qdqgraph.check(model, qdqgraph.rules())


def test_quantization_of_other_domains_is_reported() -> None:
    model = build(f"g ({X}) => (float[1,4,8,8] y) {{ a = Relu (x) y = t.conv4 (a, s1) }}")
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    found = qdqgraph.check(model, qdqgraph.rules())
    assert {f.code for f in found} == {"QDQ407"} and len(found) == 3


def test_scales_behind_long_chains_and_old_files() -> None:
    chain = " ".join(f"i{n + 1} = Identity (i{n})" for n in range(2000))
    body = f"i0 = Identity (s1) {chain} q = QuantizeLinear (a, i2000, z) y = DequantizeLinear (q, i2000, z)"
    text = f"g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v) <int8 z = {{0}}> {{ a = Relu (x) {body} v = t.conv4 (a, s2) }}"
    assert [f.code for f in fixed(build(text)).applied] == ["QDQ409", "QDQ104"]


def test_files_whose_initializers_must_be_inputs_stay_valid() -> None:
    model = build(
        f"g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v) {{ a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }}"
    )
    model.ir_version = 3
    for tensor in model.graph.initializer:
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        model.graph.input.append(info)
    onnx.checker.check_model(model)
    assert fixed(model).applied


def test_a_damaged_original_scale_is_refused() -> None:
    model = build(f"g ({X}) => (float[1,4,8,8] y) {{ a = Relu (x) y = t.conv4 (a, s1) }}")
    model.metadata_props.add(key="qdqgraph.scale.a", value="nan")
    with pytest.raises(qdqgraph.ModelError, match="which is not a scale"):
        qdqgraph.check(model, qdqgraph.rules())


def test_a_stored_shape_that_contradicts_a_cast_ends_nothing() -> None:
    model = build(
        f"g ({X}) => (float[1,4,8,8] y) {{ h = Cast <to = 10> (x) f = Cast <to = 1> (h) y = t.conv4 (f, s1) }}"
    )
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT16, [1, 4, 8, 9]))
    assert not qdqgraph.fix(model).left


@pytest.mark.parametrize("op", ["Conv", "DequantizeLinear", "QuantizeLinear", "Relu"])
def test_nodes_whose_output_has_no_name_stay_as_they_are(op: str) -> None:
    model = build(f"g ({X}) => (float[1,4,8,8] y) {{ q = t.pair (x, s1) m = Relu (q) y = t.conv4 (m, s2) }}")
    dead = onnx.NodeProto()
    dead.CopyFrom(next(node for node in model.graph.node if node.op_type == op))
    dead.name = "dead"
    del dead.output[:]
    dead.output.append("")
    model.graph.node.append(dead)
    for made in (
        qdqgraph.fix(model, weights="float").model,
        qdqgraph.fix(model, weights="int8").model,
        qdqgraph.strip(model, ["*"]).model,
    ):
        assert any(node.name == "dead" and list(node.output) == [""] for node in made.graph.node)


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ("float[0] s = {}, uint8 z = {3}", "the scale of 'x' is an empty tensor"),
        ("float s = {0.1}, uint8[0] z = {}", "the zero-point of 'x' is an empty tensor"),
        ("float[0] s = {}, uint8[0] z = {}", "the scale of 'x' is an empty tensor"),
    ],
)
def test_empty_scales_and_zero_points_are_refused(parameters: str, what: str) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x) => (float[2,2] y) <{parameters}> {{
            q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }}""")
    for call in (qdqgraph.check, qdqgraph.fix):
        with pytest.raises(ModelError, match=what):
            call(model)


def test_the_limit_of_a_clip_is_an_empty_tensor() -> None:
    """onnx.checker and ONNX Runtime accept it."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,2] x) => (float[2,2] y) <float s = {0.1}, int8 z = {0}, int8[0] low = {}, int8 high = {60}> {
            q = QuantizeLinear (x, s, z) c = Clip (q, low, high) y = DequantizeLinear (c, s, z) }""")
    assert [f.code for f in qdqgraph.check(model)] == ["QDQ412"]


def test_weights_stored_as_float_get_no_type_of_their_dequantization() -> None:
    """The output_dtype of a DequantizeLinear is FP16, that of a QuantizeLinear an integer type."""
    model = onnx.parser.parse_model("""<ir_version: 11, opset_import: ["" : 23]>
        g (float16[1,2] x) => (float16[1,2] y) <int8 z = {0}, int8[2,2] w = {1, 2, 3, 4}, float s = {0.1}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear <output_dtype = 10> (q, s, z)
            k = DequantizeLinear <output_dtype = 10> (w, s, z) y = MatMul (d, k) }""")
    result = qdqgraph.fix(model, weights="float").model
    onnx.checker.check_model(result, full_check=True)
    assert [n.op_type for n in result.graph.node].count("QuantizeLinear") == 2

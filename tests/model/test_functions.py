"""Local functions are inlined exactly: nested, with attributes, in subgraphs, of another opset; rules see inside."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import ModelError
from qdqgraph.calibration.noise import noise
from qdqgraph.model import runtime
from qdqgraph.model.functions import inlined
from qdqgraph.verify.comparison import compare

PAIR = """
<domain: "local", opset_import: ["" : 17]>
Pair (x, s) => (y) {
    z = Constant <value = int8 {0}> ()
    q = QuantizeLinear (x, s, z)
    y = DequantizeLinear (q, s, z)
}"""
HEAD = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n'
NESTED = (
    HEAD
    + """g (float[1,4] x) => (float[1,4] y) <float s = {0.1}, float t = {0.2}> { a = local.Two (x, s, t) y = Relu (a) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
Two (x, s, t) => (y) { a = local.Pair (x, s) y = local.Pair (a, t) }"""
    + PAIR
)
ATTRIBUTES = (
    HEAD
    + """g (float[1,4] x) => (float[1,4] y) <float s = {0.1}> {
    a = local.Leaky <slope = 0.5> (x, s) y = local.Leaky <slope = 0.25> (a, s) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
Leaky <slope> (x, s) => (y) { a = LeakyRelu <alpha : float = @slope> (x) y = local.Pair (a, s) }"""
    + PAIR
)
SUBGRAPH = (
    HEAD
    + """g (float[1,4] x, bool c) => (float[1,4] y) <float s = {0.1}> {
    a = local.Pair (x, s)
    y = If (c) <
        then_branch = t () => (float[1,4] u) { u = local.Pair (a, s) },
        else_branch = e () => (float[1,4] v) { v = Relu (a) }
    > }"""
    + PAIR
)
EARLIER = (
    '<ir_version: 8, opset_import: ["" : 18, "local" : 1]>\n'
    + """g (float[1,4] x) => (float[1,1] y) <float s = {0.1}> { y = local.Mean (x, s) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
Mean (x, s) => (y) { a = local.Pair (x, s) y = ReduceMean <axes = [1], keepdims = 1> (a) }"""
    + PAIR
)
LATER = (
    HEAD
    + """g (float[1,4] x) => (float[1,1] y) <float s = {0.1}> { b = ReduceMax <axes = [1]> (x) a = local.Mean (x, s) y = Add (a, b) }
<domain: "local", opset_import: ["" : 18, "local" : 1]>
Mean (x, s) => (y) { k = Constant <value = int64[1] {1}> () a = local.Pair (x, s) y = ReduceMean <keepdims = 1> (a, k) }"""
    + PAIR
)

HALF = (
    HEAD
    + """g (float16[1] x) => (float16[1] y) { y = local.Same (x) }
<domain: "local", opset_import: ["" : 17]>
Same (x) => (y) { a = Mul (x, x) y = Div (a, x) }"""
)


def parsed(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    return model


def test_fp16_tensors_inside_functions_are_rounded() -> None:
    """A model with functions and its repair, which has none, are run with the same arithmetic."""
    pytest.importorskip("onnxruntime")
    x = np.array([300], np.float16)  # its square is beyond FP16
    for model in (parsed(HALF), inlined(parsed(HALF))[0]):
        assert np.isinf(runtime.run(model, [{"x": x}], Path())[0][0])


@pytest.mark.parametrize(("text", "opset"), [(EARLIER, 18), (LATER, 18)])
def test_a_function_of_another_opset_is_converted(text: str, opset: int) -> None:
    """onnx.checker and ONNX Runtime reject such a model if an operator changed between the two opsets."""
    pytest.importorskip("onnxruntime")
    result = qdqgraph.fix(onnx.parser.parse_model(text))
    assert {o.domain: o.version for o in result.model.opset_import} == {"": opset, "local": 1}
    onnx.checker.check_model(result.model, full_check=True)
    x = np.array([[0.26, 1.0, -0.5, 2.0]], np.float32)
    (y,) = runtime.run(result.model, [{"x": x}], Path())[0]
    mean = np.mean(np.round(x / np.float32(0.1)) * np.float32(0.1))
    assert np.allclose(y, mean + (2.0 if text == LATER else 0.0), atol=1e-5)


@pytest.mark.parametrize("text", [NESTED, ATTRIBUTES, SUBGRAPH])
def test_check_sees_inside_and_fix_inlines_exactly(text: str) -> None:
    model = parsed(text)
    assert "QDQ421" in {f.code for f in qdqgraph.check(model)}
    result = qdqgraph.fix(model)
    assert "local.Pair" in result.functions and not result.model.functions
    assert not {n.domain for n in result.model.graph.node} - {""}
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    assert qdqgraph.Plan.from_json(result.plan.to_json()).apply(model) == result.model
    assert not qdqgraph.fix(result.model).plan.edits
    assert all(a.identical for a in compare(model, result.exact, noise(model, 3), Path()).values())


def test_metadata_of_the_nodes_and_uncalled_functions_stay() -> None:
    model = parsed(NESTED + '\n<domain: "local", opset_import: ["" : 17]>\nUnused (x) => (y) { y = Relu (x) }')
    model.graph.node[1].metadata_props.add(key="class", value="ReLU")
    model.graph.quantization_annotation.add(tensor_name="x")
    model.graph.metadata_props.add(key="graph", value="g")
    new, functions = inlined(model)
    assert [f.name for f in new.functions] == ["Unused"]
    assert new.graph.node[-1] == model.graph.node[1]
    for field in ("quantization_annotation", "metadata_props", "initializer", "input", "output"):
        assert getattr(new.graph, field) == getattr(model.graph, field)
    assert {(f.name, f.calls, f.place) for f in functions} == {("local.Two", 1, "a"), ("local.Pair", 2, "a")}


def test_a_model_without_pairs_in_its_functions_is_not_changed_without_a_repair() -> None:
    text = HEAD + "g (float[1,4] x) => (float[1,4] y) <float s = {0.1}> { a = local.Act (x) y = local.Pair (a, s) }"
    act = '\n<domain: "local", opset_import: ["" : 17]>\nAct (x) => (y) { y = Relu (x) }'
    whole = parsed(text + act + PAIR)
    assert not qdqgraph.fix(whole).model.functions
    head = HEAD + "g (float[1,4] x) => (float[1,4] y) <float s = {0.1}, int8 z = {0}> {"
    plain = parsed(head + "a = local.Act (x) q = QuantizeLinear (a, s, z) y = DequantizeLinear (q, s, z) }" + act)
    assert not qdqgraph.check(plain)
    assert qdqgraph.fix(plain).model == plain


def test_a_function_that_calls_itself_is_refused() -> None:
    text = HEAD + "g (float[1,4] x) => (float[1,4] y) <float s = {0.1}> { y = local.Loop (x, s) }"
    body = '\n<domain: "local", opset_import: ["" : 17, "local" : 1]>\nLoop (x, s) => (y) { a = local.Pair (x, s) y = local.Loop (a, s) }'
    with pytest.raises(ModelError, match=r"the local function 'local\.Loop' calls itself"):
        qdqgraph.check(onnx.parser.parse_model(text + body + PAIR))


def test_functions_of_more_nodes_than_fit_are_refused_and_a_long_chain_of_them_gets_a_sentence() -> None:
    """64 functions, each of which calls the next one twice, would be 2^64 nodes."""
    call = '\n<domain: "local", opset_import: ["" : 17, "local" : 1]>\nF{} (x, s) => (y) {{ {} }}'
    text = HEAD + "g (float[1,4] x) => (float[1,4] y) <float s = {0.1}> { y = local.F0 (x, s) }"
    twice = "".join(call.format(i, f"a = local.F{i + 1} (x, s) y = local.F{i + 1} (a, s)") for i in range(64))
    last = call.format(64, "y = local.Pair (x, s)")
    with pytest.raises(ModelError, match=r"have [\d,]{27} nodes in all their calls, and more than 1,000,000 are not"):
        qdqgraph.check(onnx.parser.parse_model(text + twice + last + PAIR))
    count = 2000
    chain = "".join(call.format(i, f"y = local.F{i + 1} (x, s)") for i in range(count))
    with pytest.raises(ModelError, match="the local functions contain Q/DQ and cannot be inlined"):
        qdqgraph.check(onnx.parser.parse_model(text + chain + call.format(count, "y = local.Pair (x, s)") + PAIR))


def test_the_functions_of_onnxruntime_stay() -> None:
    head = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'
    body = "g (float[1,4] x) => (float[1,4] y) <float s = {0.1}, int8 z = {0}> { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = com.microsoft.FastGelu (d) }"
    own = '\n<domain: "com.microsoft", opset_import: ["" : 17]>\nFastGelu (x) => (y) { y = Relu (x) }'
    model = parsed(head + body + own)
    assert inlined(model) == (model, ())


def test_strip_and_fp16_see_inside_too() -> None:
    text = (
        HEAD
        + "g (float[1,4] x) => (float[1,2] y) <float s = {0.1}, float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { a = local.Pair (x, s) k = local.Pair (w, s) y = MatMul (a, k) }"
    )
    model = parsed(text + PAIR)
    assert [n.op_type for n in qdqgraph.strip(model, ["y"]).model.graph.node if n.op_type != "Constant"] == ["MatMul"]
    half = qdqgraph.to_fp16(model).model
    onnx.checker.check_model(half, full_check=True)
    assert half.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert {n.op_type for n in half.graph.node} >= {"QuantizeLinear", "MatMul"} and not half.functions
    assert np.isfinite(qdqgraph.fix(model, fp16=True, numerics=True).numbers.outputs["y"].sqnr)  # type: ignore[union-attr]

"""The network that a Q/DQ graph quantizes: pairs become connections, weights floats, and names stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph import ModelError
from qdqgraph.calibration.noise import noise
from qdqgraph.calibration.statistics.floating import FloatModel, float_model
from qdqgraph.model.runtime import run
from tests.support.models import build

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'


def parsed(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEAD + text)
    onnx.checker.check_model(model)
    return model


def floating(text: str) -> FloatModel:
    found = float_model(parsed(text), Path())
    onnx.checker.check_model(found.model, full_check=True)
    return found


def nodes(model: onnx.ModelProto) -> list[str]:
    return [f"{', '.join(n.output)} = {n.op_type} ({', '.join(n.input)})" for n in model.graph.node]


def test_pairs_of_activations_become_connections_and_stored_weights_floats() -> None:
    model = build(
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Relu (x)  b = t.conv4 (a, s1)  y = t.pair (b, s2) }"
    )
    before = model.SerializeToString()
    found = float_model(model, Path())
    assert [n.op_type for n in found.model.graph.node] == ["Relu", "Conv", "Identity"]
    (feed,) = noise(model)
    weights = onnx.numpy_helper.to_array(found.model.graph.initializer[0])
    relu = np.maximum(feed["x"], 0)
    expected = np.einsum("oi,nihw->nohw", weights[:, :, 0, 0], relu)
    assert np.allclose(run(found.model, [feed], Path())[0][0], expected, rtol=1e-5, atol=1e-5)
    assert found.weights == (found.model.graph.initializer[0].name,) and found.tensor("y") == "b"
    assert model.SerializeToString() == before


def test_a_quantized_float_constant_stays_as_it_is() -> None:
    found = floating(
        """g (float[2,2] x) => (float[2,2] y)
        <float[2,2] w = {0.123, 2, 3, 4}, float s = {1}, int8 z = {0}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
            k = QuantizeLinear (w, s, z) v = DequantizeLinear (k, s, z)
            y = MatMul (d, v) }"""
    )
    assert nodes(found.model) == ["y = MatMul (x, w)"] and found.weights == ()
    assert found.wires == {"d": "x", "v": "w", "q": "x", "k": "w"}


@pytest.mark.parametrize(
    ("scale", "operator"),
    [("0.1", "c = Relu (c_unclipped)"), ("0.0235294", "c = Clip (c_unclipped, c_relu_low, c_relu_high)")],
)
def test_a_range_that_starts_at_zero_is_the_relu_or_relu6_that_it_replaces(scale: str, operator: str) -> None:
    found = floating(
        f"""g (float[1,4] x) => (float[1,4] y) <float s = {{{scale}}}, uint8 z = {{0}}> {{
            c = Neg (x) q = QuantizeLinear (c, s, z) d = DequantizeLinear (q, s, z) y = Abs (d) }}"""
    )
    assert nodes(found.model) == ["c_unclipped = Neg (x)", operator, "y = Abs (c)"]
    assert found.tensor("d") == "c"


def test_an_input_and_a_result_without_negative_values_get_no_relu() -> None:
    found = floating(
        """g (float[1,4] x) => (float[1,4] y) <float s = {0.1}, uint8 z = {0}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) e = Sigmoid (d)
            k = QuantizeLinear (e, s, z) f = DequantizeLinear (k, s, z) y = Abs (f) }"""
    )
    assert nodes(found.model) == ["e = Sigmoid (x)", "y = Abs (e)"]


def test_integers_as_input_keep_their_dequantize_linear() -> None:
    found = floating(
        """g (int8[1,4] x) => (float[1,4] y) <float s = {0.1}, int8 z = {0}> {
            d = DequantizeLinear (x, s, z) y = Relu (d) }"""
    )
    assert nodes(found.model) == ["d = DequantizeLinear (x, s, z)", "y = Relu (d)"]


def test_pairs_with_casts_around_them_and_of_other_types_leave_casts() -> None:
    found = floating(
        """g (float16[1,4] x) => (float[1,4] y, float16[1,4] v) <float s = {0.1}, int8 z = {0}> {
            h = Cast <to = 10> (s) a = Cast <to = 1> (x) q = QuantizeLinear (a, s, z) d = DequantizeLinear (q, s, z) v = Cast <to = 10> (d)
            k = QuantizeLinear (x, h, z) y = DequantizeLinear (k, s, z) }"""
    )
    assert nodes(found.model) == ["a = Cast (x)", "v = Cast (a)", "y = Cast (x)"]


def test_branches_read_the_connection_too() -> None:
    found = floating(
        """g (float[4] x, bool b) => (float[4] y) <float s = {0.1}, int8 z = {0}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
            y = If (b) <
                then_branch = t () => (float[4] u) { k = QuantizeLinear (d, s, z) l = DequantizeLinear (k, s, z) u = Neg (l) },
                else_branch = e () => (float[4] w) { w = Abs (d) }> }"""
    )
    branch = found.model.graph.node[0].attribute
    assert [[f"{n.op_type} ({n.input[0]})" for n in a.g.node] for a in branch] == [["Neg (x)"], ["Abs (x)"]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            """q = QuantizeLinear (x, s, z) r = Flatten (q) y = DequantizeLinear (r, s, z)""",
            r"integers of 'q' \(QuantizeLinear\) are moved or read .*: run `qdqgraph fix` first",
        ),
        (
            """a, t, u = DynamicQuantizeLinear (x) b = MatMulInteger (a, w, u) y = Cast <to = 1> (b)""",
            r"'a' \(DynamicQuantizeLinear\) computes with integers.*: run `qdqgraph fix` first",
        ),
    ],
)
def test_a_network_that_computes_with_integers_is_refused(body: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        floating(
            f"""g (float[4,4] x) => (float[4,4] y)
            <float s = {{0.1}}, int8 z = {{0}}, uint8[4,4] w = {{1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}}> {{ {body} }}"""
        )


def test_a_reference_gives_the_weights_before_quantization_under_any_name_and_transposed() -> None:
    random = np.random.default_rng(0)
    true = random.standard_normal((6, 5)).astype(np.float32)
    scale = np.float32(np.abs(true).max() / 127)
    integers = np.clip(np.rint(true / scale), -127, 127).astype(np.int8)
    model = parsed(
        f"""g (float[1,6] x) => (float[1,5] y)
        <float s = {{{float(scale)!r}}}, int8 z = {{0}}, int8[6,5] w = {{{", ".join(map(str, integers.reshape(-1)))}}}> {{
            v = DequantizeLinear (w, s, z) y = MatMul (x, v) }}"""
    )
    same = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    same.graph.initializer.append(onnx.numpy_helper.from_array(true.T.copy(), "other_name"))
    found = float_model(model, Path(), reference=same)
    assert np.array_equal(onnx.numpy_helper.to_array(found.model.graph.initializer[0]), true) and not found.unmatched
    other = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    other.graph.initializer.append(onnx.numpy_helper.from_array(true * np.float32(1.1), "w"))
    found = float_model(model, Path(), reference=other)
    assert found.unmatched == found.weights == ("v",)
    assert np.array_equal(onnx.numpy_helper.to_array(found.model.graph.initializer[0]), integers * scale)


def test_a_reference_whose_normalization_the_exporter_folded_gives_the_folded_weights() -> None:
    random = np.random.default_rng(0)
    arrays = {
        "w": random.standard_normal((5, 3, 3, 3)),
        "b": random.standard_normal(5),
        "s": random.uniform(0.2, 3, 5),
        "h": random.standard_normal(5),
        "m": random.standard_normal(5),
        "v": random.uniform(0.2, 3, 5),
    }
    reference = onnx.parser.parse_model(
        HEAD
        + """g (float[1,3,8,8] x) => (float[1,5,6,6] y) {
            c = Conv (x, w, b) y = BatchNormalization <epsilon = 0.01> (c, s, h, m, v) }"""
    )
    for name, array in arrays.items():
        reference.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    factor = arrays["s"] / np.sqrt(arrays["v"] + 0.01)
    true = arrays["w"] * factor.reshape(-1, 1, 1, 1)
    scale = np.abs(true).max(axis=(1, 2, 3)) / 127
    integers = np.rint(true / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
    model = onnx.parser.parse_model(
        HEAD
        + """g (float[1,3,8,8] x) => (float[1,5,6,6] y) {
            k = DequantizeLinear <axis = 0> (i, t) y = Conv (x, k) }"""
    )
    for name, array in (("i", integers), ("t", scale.astype(np.float32))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    found = float_model(model, Path(), reference=reference)
    assert not found.unmatched
    assert np.allclose(onnx.numpy_helper.to_array(found.model.graph.initializer[0]), true, rtol=1e-5)


def test_the_digest_is_of_what_determines_the_values() -> None:
    text = """g (float[1,4] x) => (float[1,4] y) <float s = {%s}, int8 z = {0}, float k = {%s}> {
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Mul (d, k) }"""
    first = parsed(text % (0.1, 2))
    named = parsed(text % (0.1, 2))
    named.graph.node[2].doc_string = "scaled"
    digests = [float_model(m, Path()).digest for m in (first, named, parsed(text % (0.2, 2)), parsed(text % (0.1, 3)))]
    assert digests[0] == digests[1] == digests[2] != digests[3]

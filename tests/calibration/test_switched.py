"""A switched graph: quantized it computes the Q/DQ graph bit for bit, in float the float network, and in between what
the graph without the pairs of these layers computes."""

from __future__ import annotations

import glob
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")

import qdqgraph
from qdqgraph.calibration.layers.switched import Switched, sets_of, switched
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.model.corrected import corrected
from qdqgraph.model.protos import element_types, nested
from qdqgraph.model.runtime import Session, run
from qdqgraph.rulekit import Graph
from qdqgraph.verify.sensitivity.measure import Measuring
from qdqgraph.verify.sensitivity.units import Unit, units
from tests.support.cases import FOLDER, model, sample
from tests.support.graphs import Net
from tests.support.models import build

HALF = 0.02
"""The relative difference that FP16 may make."""
SOLVED = qdqgraph.Options()
Feed = dict[str, np.ndarray]


def parts(graph: Graph, by: str) -> tuple[Unit, ...]:
    from qdqgraph.repair.rounds import examined

    return units(graph, by, examined(graph, qdqgraph.rules(), SOLVED)[0])  # type: ignore[arg-type]


def outputs(built: Switched, feed: Feed, switches: Feed) -> list[np.ndarray]:
    return [np.asarray(a) for a in Session(built.model, FOLDER).run([{**feed, **switches}])[0]][: len(built.outputs)]


def made(proto: onnx.ModelProto, by: str = "layer") -> tuple[Switched, tuple[Unit, ...]]:
    graph = Graph(proto)
    found = parts(graph, by)
    return switched(graph, float_model(proto, FOLDER), sets_of(part.layers for part in found)), found


def agree(a: list[np.ndarray], b: list[np.ndarray], tolerance: float = 0) -> None:
    for x, y in zip(a, b, strict=True):
        if tolerance:
            assert np.linalg.norm(x - y) <= tolerance * np.linalg.norm(y)
        else:
            assert np.array_equal(x, y, equal_nan=True)


def check_units(net: onnx.ModelProto, feed: Feed) -> None:
    """Each layer of a network in float is the network without the pairs of this layer, as `strip` writes it."""
    built, found = made(net)
    agree(outputs(built, feed, built.off()), run(net, [feed], FOLDER)[0])
    agree(outputs(built, feed, built.on()), run(float_model(net, FOLDER).model, [feed], FOLDER)[0], 1e-5)
    for index, part in enumerate(found):
        stripped = qdqgraph.strip(net, [glob.escape(layer) for layer in part.layers]).model
        agree(outputs(built, feed, built.off(index)), run(stripped, [feed], FOLDER)[0], 1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "a = Relu (x)  b = t.conv4 (a, s1)  c = t.conv4 (a, s2)  y = Add (b, c)",
        "a = t.pair (x, s1)  b = MaxPool <kernel_shape = [1, 1]> (a)  c = t.conv4 (b, s1)  y = Add (c, a)",
        "a = t.conv4 (x, s1)  p = t.pair (a, s2)  g = Sigmoid (p)  y = Mul (p, g)",
        "a = t.conv4 (x, s1)  b = Relu (a)  y = t.pair (b, s2)",
        "a = t.pair (x, s1)  y = t.conv4 (a, s3)",
    ],
)
def test_a_layer_in_float_is_the_network_without_its_pairs(text: str) -> None:
    net = build(f"g (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {text} }}")
    check_units(net, sample(net))


def test_float_weights_are_those_before_their_quantizelinear() -> None:
    net = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,2] x) => (float[2,2] y)
        <float[2,2] w = {0.123, 2, 3, 4}, float s = {0.1}, int8 z = {0}> {
            q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
            k = QuantizeLinear (w, s, z)  v = DequantizeLinear (k, s, z)
            t = Transpose (v)  y = MatMul (d, t) }"""
    )
    built, found = made(net)
    assert [part.layers for part in found] == [("t", "y")], "the Transpose of weights belongs to what reads them"
    x = np.array([[0.513, 0.2], [1, 7]], np.float32)
    w = np.array([[0.123, 2], [3, 4]], np.float32)
    (exact,) = outputs(built, {"x": x}, built.off(0))
    assert np.allclose(exact, x @ w.T, rtol=1e-6)
    check_units(net, {"x": x})


def test_a_relu_that_a_range_replaces_is_restored_in_float() -> None:
    net = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[1,4] x) => (float[1,4] y)
        <float s = {0.1}, uint8 z = {0}> {
            a = Neg (x)  q = QuantizeLinear (a, s, z)  d = DequantizeLinear (q, s, z)  y = Exp (d) }"""
    )
    built, _ = made(net)
    x = np.array([[-0.31, 0.5, 2, -3.14]], np.float32)
    assert np.allclose(outputs(built, {"x": x}, built.off(0))[0], np.exp(np.maximum(-x, 0)))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.onnxtxt")), ids=lambda path: path.stem)
def test_every_case_is_computed_bit_for_bit(path: Path) -> None:
    net = model(path.read_text(encoding="utf-8"))
    if net.functions:
        net = onnx.inliner.inline_local_functions(net)
    try:
        run(net, [sample(net)], FOLDER)
        reference = float_model(net, FOLDER).model
        built, _ = made(net)
    except qdqgraph.QdqgraphError as error:
        pytest.skip(str(error))
    feed = sample(net)
    half = onnx.TensorProto.FLOAT16 in element_types(net).values()  # onnxruntime rounds less often around an If
    inside = any(n.op_type == "QuantizeLinear" for node in net.graph.node for n in list(nested(node))[1:])
    agree(outputs(built, feed, built.off()), run(net, [feed], FOLDER)[0], HALF if half else 0)
    if not inside:  # those stay quantized
        agree(outputs(built, feed, built.on()), run(reference, [feed], FOLDER)[0], HALF if half else 1e-5)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_random_networks(seed: int) -> None:
    net = Net(seed, 12).model()
    check_units(net, sample(net))


def test_a_corrected_bias_is_the_original_in_float() -> None:
    net = build(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4] bias = {0.5, 0, 0, 0}, int8[4,4,1,1] w = {
        100,20,-30,5, 7,90,11,-60, 1,2,3,4, -50,60,70,-80}, float sw = {0.01}, int8 z = {0}> {
        a = t.pair (x, s1)  k = DequantizeLinear (w, sw, z)  b = Conv (a, k, bias)  y = t.conv4 (b, s2) }"""
    )
    changed = corrected(net, {("b", 2): np.array([0.6, 0.1, 0, -0.2], np.float32)}, FOLDER)
    assert changed.graph != net.graph
    built, found = made(changed)
    feed = sample(net)
    agree(outputs(built, feed, built.off()), run(changed, [feed], FOLDER)[0])
    agree(outputs(built, feed, built.on()), run(float_model(net, FOLDER).model, [feed], FOLDER)[0], 1e-6)
    (index,) = (i for i, part in enumerate(found) if part.layers == ("b",))
    agree(outputs(built, feed, built.off(index)), run(qdqgraph.strip(net, ["b"]).model, [feed], FOLDER)[0], 1e-6)


ALONE = """<ir_version: 8, opset_import: ["" : 17]> g (float[2,2] x) => (float[2,2] y)
    <float[2,2] w = {0.123, 2, 3, 4}, float s = {0.1}, float t = {0.5}, int8 z = {0}> {
        q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
        k = QuantizeLinear (w, s, z)  v = DequantizeLinear (k, s, z)
        m = MatMul (d, v)  a = QuantizeLinear (m, t, z)  b = DequantizeLinear (a, t, z)
        n = MatMul (b, v)  e = Tanh (b)  y = Add (n, e) }"""


@pytest.mark.parametrize(
    ("sites", "body"),
    [
        (
            ["x"],
            """q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
            m = MatMul (d, w)  n = MatMul (m, w)  e = Tanh (m)  y = Add (n, e)""",
        ),
        (
            ["m"],
            """m = MatMul (x, w)  a = QuantizeLinear (m, t, z)  b = DequantizeLinear (a, t, z)
            n = MatMul (b, w)  e = Tanh (b)  y = Add (n, e)""",
        ),
        (
            ["x", "m"],
            """q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
            m = MatMul (d, w)  a = QuantizeLinear (m, t, z)  b = DequantizeLinear (a, t, z)
            n = MatMul (b, w)  e = Tanh (b)  y = Add (n, e)""",
        ),
    ],
)
@pytest.mark.parametrize("factor", [1, 2])
def test_sites_alone_are_the_network_with_only_their_pairs(sites: list[str], body: str, factor: int) -> None:
    """With the scales of the file, and with other ones."""
    net, graph = onnx.parser.parse_model(ALONE), Graph(onnx.parser.parse_model(ALONE))
    built = switched(
        graph, float_model(net, FOLDER), sets_of(part.layers for part in parts(graph, "layer")), {"x", "m"}
    )
    only = onnx.parser.parse_model(ALONE[: ALONE.index("z = {0}> {")] + f"z = {{0}}> {{ {body} }}")
    scales = {"x": 0.1 * factor, "m": 0.5 * factor}
    for name, value in (("s", scales["x"]), ("t", scales["m"])):
        (stored,) = (i for i in only.graph.initializer if i.name == name)
        stored.CopyFrom(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    feed = {"x": np.array([[0.513, 0.26], [1, 7.77]], np.float32)}
    switches = built.alone(sites) | built.scaled({site: scales[site] for site in sites})
    agree(outputs(built, feed, switches), run(only, [feed], FOLDER)[0], 1e-6)
    agree(outputs(built, feed, built.off()), run(net, [feed], FOLDER)[0])


@pytest.mark.parametrize(
    "end",
    [
        "y = Softmax (c)",
        "b = LogSoftmax <axis = 1> (c)  y = t.pair (b, s2)",
        "b = Sigmoid (c)  n = Constant <value = int64[4] {1, 4, 8, 8}> ()  i = Identity (b)  y = Reshape (i, n)",
        "p = t.pair (c, s3)  y = HardSigmoid (p)",
    ],
)
def test_an_output_that_ends_in_a_softmax_or_sigmoid_is_measured_before_it_too(end: str) -> None:
    """The other output, that ends in none, is measured as it is."""
    text = (
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = t.conv4 (x, s1)  c = t.conv4 (a, s2)  END }"
    )
    before = "i = t.pair (c, s3)  y = Identity (i)" if "p =" in end else "y = Identity (c)"
    net, inner = (build(text.replace("END", f"v = Tanh (a)  {last}")) for last in (end, before))
    feeds = [sample(net), {"x": -sample(net)["x"]}]
    found = []
    for each in (net, inner):
        built = made(each)[0]
        with Measuring(built, feeds, FOLDER, None) as measuring:
            found.append(measuring.measured(built.off(), 2))
    (ends, ((decides, _))), (whole, none) = found
    assert not none and decides.outputs_db == whole[0].outputs_db
    assert ends[0].outputs_db["v"] == decides.outputs_db["v"] and ends[0].outputs_db["y"] != decides.outputs_db["y"]
    assert decides.samples_db == whole[0].samples_db

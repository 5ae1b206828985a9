"""`quantize`: pairs at the inputs of the weighted layers of a float network, then the rules, with given or measured
scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, printer
from onnx.reference import ReferenceEvaluator

import qdqgraph
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.calibration.tables import tensorrt
from qdqgraph.errors import CalibrationError, ModelError
from qdqgraph.graph.graph import Graph
from qdqgraph.graph.pair import pairs
from qdqgraph.model.text import parse
from tests.support.graphs import nets
from tests.support.halves import sandwiched

BLOCK = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,4,4] x) => (float[1,1,4,4] y)
    <float[2,2,1,1] w = {1.27, 0.5, -2.54, 1}, float[1,2,1,1] v = {1, -1.27}, float[2] b = {1, 2}>
    {
        a = Conv (x, w, b)
        r = Relu (a)
        y = Conv (r, v)
    }"""

CACHE = {"x": 0.5, "a": 0.25, "r": 0.125, "y": 1.0}


def table(folder: Path, scales: dict[str, float], name: str = "ranges.cache") -> Path:
    path = folder / name
    path.write_text(tensorrt.written(scales))
    return path


def scales(model: onnx.ModelProto) -> dict[str, float]:
    return {p.site: p.value for p in pairs(Graph(model)) if p.kind == "activation"}


def samples(model: onnx.ModelProto, count: int = 3) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return [{n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()} for _ in range(count)]


def test_a_layer_reads_pairs_of_the_given_scale_and_integer_weights_per_channel(tmp_path: Path) -> None:
    result = qdqgraph.quantize(parse(BLOCK), ranges=table(tmp_path, CACHE))
    got = result.model
    del got.metadata_props[:]
    for node in got.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("name")
    del got.graph.value_info[:]
    assert printer.to_text(got) == printer.to_text(parse(EXPECTED))
    assert not result.floats and not result.left
    assert result.int8 is not None and (result.int8[0].int8, result.int8[1].int8) == (0, 2)


EXPECTED = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,4,4] x) => (float[1,1,4,4] y)
    <float[2] b = {1, 2}, float x_scale = {0.5}, int8 x_zero_point = {0}, float r_scale = {0.125},
     int8 r_zero_point = {0}, int8[2,2,1,1] w_integers = {127, 50, -127, 50},
     float[2] w_dequantized_scale = {0.01, 0.02}, int8[2] w_dequantized_zero_point = {0, 0},
     int8[1,2,1,1] v_integers = {100, -127}, float v_dequantized_scale = {0.01}, int8 v_dequantized_zero_point = {0}>
    {
        x_quantized = QuantizeLinear (x, x_scale, x_zero_point)
        x_dequantized = DequantizeLinear (x_quantized, x_scale, x_zero_point)
        w_dequantized = DequantizeLinear <axis = 0> (w_integers, w_dequantized_scale, w_dequantized_zero_point)
        v_dequantized = DequantizeLinear (v_integers, v_dequantized_scale, v_dequantized_zero_point)
        a = Conv (x_dequantized, w_dequantized, b)
        r = Relu (a)
        r_quantized = QuantizeLinear (r, r_scale, r_zero_point)
        r_dequantized = DequantizeLinear (r_quantized, r_scale, r_zero_point)
        y = Conv (r_dequantized, v_dequantized)
    }"""


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(2.0**-126, 2.0**100, width=32, exclude_min=True), min_size=2, max_size=2))
def test_a_cache_gives_its_scales_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, given: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    asked = dict(zip(("x", "r"), given, strict=True))
    found = scales(qdqgraph.quantize(parse(BLOCK), ranges=table(folder, asked)).model)
    assert {n: np.float32(s).tobytes() for n, s in found.items()} == {
        n: np.float32(s).tobytes() for n, s in asked.items()
    }


def test_tensors_without_a_range_are_measured_or_left_in_float(tmp_path: Path) -> None:
    model, cache = parse(BLOCK), table(tmp_path, {"x": 0.5, "gone": 1.0})
    alone = qdqgraph.quantize(model, ranges=cache)
    assert [(f.layer, f.operator) for f in alone.floats] == [("Conv(y)", "Conv")]
    assert "its input 'r' has no range" in alone.floats[0].reason
    assert scales(alone.model) == {"x": 0.5}
    assert alone.notes == ("ranges.cache has 1 tensor that the model does not have: gone",)
    both = qdqgraph.quantize(model, ranges=cache, data=samples(model), calibrate="max")
    assert not both.floats
    largest = max(np.maximum(float_value(model, f, "a"), 0).max() for f in samples(model))
    assert scales(both.model) == {"x": 0.5, "r": pytest.approx(largest / 127, rel=0.01)}


def float_value(model: onnx.ModelProto, feed: dict[str, np.ndarray], tensor: str) -> np.ndarray:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    (found,) = ReferenceEvaluator(shown).run([tensor], feed)
    return np.asarray(found)


def test_a_group_takes_the_largest_of_given_and_measured_scales(tmp_path: Path) -> None:
    model = parse(POOLED)
    feeds = samples(model)
    measured = max(float(np.abs(f["x"]).max()) for f in feeds) / 127
    for scale in (measured / 4, measured * 2):
        both = qdqgraph.quantize(model, ranges=table(tmp_path, {"a": scale}), data=feeds, calibrate="max")
        assert list(scales(both.model).values()) == [pytest.approx(max(scale, measured), rel=0.01)] * 3


POOLED = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,1,4,4] x) => (float[1,1,2,2] y)
    <float[1,1,1,1] w = {1}, float[1,2,1,1] v = {1, 1}>
    {
        a = Conv (x, w)
        p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)
        m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        c = Concat <axis = 1> (p, m)
        y = Conv (c, v)
    }"""


def test_a_range_is_inherited_through_data_movement(tmp_path: Path) -> None:
    result = qdqgraph.quantize(parse(POOLED), ranges=table(tmp_path, {"x": 0.5, "a": 0.25}))
    assert not result.floats
    found = scales(result.model)
    assert set(found.values()) == {0.5}, "the Concat and the pools have one scale, the largest"
    assert set(scales(qdqgraph.quantize(parse(POOLED), ranges=table(tmp_path, {"x": 0.5})).model)) == {"x"}


def test_only_and_skip_choose_the_layers(tmp_path: Path) -> None:
    cache = table(tmp_path, CACHE)
    skipped = qdqgraph.quantize(parse(BLOCK), ranges=cache, skip=("y",))
    assert [f.layer for f in skipped.floats] == ["Conv(y)"] and "--except" in skipped.floats[0].reason
    assert scales(skipped.model) == {"x": 0.5}
    assert scales(qdqgraph.quantize(parse(BLOCK), ranges=cache, only=("y",)).model) == {"r": 0.125}


KINDS = {
    "a layer in a subgraph": (
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x, bool c) => (float[1,1,4,4] y) <float[1,1,1,1] w = {1}>
        {
            a = Conv (x, w)
            y = If (c) <then_branch = t () => (float[1,1,4,4] u) { u = Conv (a, w) },
                        else_branch = e () => (float[1,1,4,4] n) { n = Identity (a) }>
        }""",
        {"Conv(u)": "in a subgraph of If(y)"},
    ),
    "groups without a kernel": (
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,4,4] x) => (float[1,4,4,4] y) <float[4,1,1,1] w = {1, 2, 3, 4}, float[4,4,1,1] v =
        {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4}>
        {
            a = Conv <group = 2> (x, w)
            y = Conv (a, v)
        }""",
        {},
    ),
    "another type": (
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x) => (double[1,1,4,4] y) <float[1,1,1,1] w = {1}, double[1,1,1,1] v = {1}>
        {
            a = Conv (x, w)
            d = Cast <to = 11> (a)
            y = Conv (d, v)
        }""",
        {"Conv(y)": "its input 'd' is FP64"},
    ),
}


@pytest.mark.parametrize(("text", "left"), KINDS.values(), ids=KINDS)
def test_what_cannot_run_in_int8_stays_in_float_and_is_named(tmp_path: Path, text: str, left: dict[str, str]) -> None:
    ranges = table(tmp_path, dict.fromkeys("xad", 0.5))
    result = qdqgraph.quantize(parse(text), ranges=ranges, target="trt-10")
    assert {f.layer for f in result.floats} == set(left)
    assert all(left[f.layer] in f.reason for f in result.floats)


def test_weights_that_are_not_finite_stay_in_float(tmp_path: Path) -> None:
    model = parse(BLOCK)
    broken = np.full((1, 2, 1, 1), np.inf, np.float32)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(broken, "v"))
    result = qdqgraph.quantize(model, ranges=table(tmp_path, CACHE))
    assert [(f.layer, f.reason) for f in result.floats] == [
        ("Conv(y)", "its weights 'v' cannot be read as finite values")
    ]


FORMS = {
    "Gemm with transB": "y = Gemm <transB = 1> (x, w)",
    "weights on the left": "y = MatMul (w, x)",
    "weights computed from constants": "h = Mul (w, w)\n y = MatMul (x, h)",
    "weights that something else reads": "h = MatMul (x, w)\n y = Add (h, w)",
    "weights of two layers on different axes": "h = MatMul (x, w)\n y = MatMul (w, h)",
    "two activations": "h = Transpose (x)\n y = MatMul (x, h)",
    "one activation twice": "y = MatMul (x, x)",
    "weights that are all zero": "n = Sub (w, w)\n y = MatMul (x, n)",
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("opset", [11, 17])
def test_forms_of_matrix_products(body: str, opset: int) -> None:
    text = f"""
    <ir_version: 8, opset_import: ["" : {opset}]>
    g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {{1, -2, 0.5, 3}}> {{ {body} }}"""
    model = parse(text)
    result = qdqgraph.quantize(model, data=samples(model), numerics=True)
    onnx.checker.check_model(result.model, full_check=True)
    assert not result.floats and not result.left
    assert result.int8 is not None and result.int8[1].int8 == result.int8[1].weighted > 0
    assert result.numbers is not None and all(a.sqnr > 30 for a in result.numbers.outputs.values())
    assert (result.opset is None) == (opset == 17)
    assert qdqgraph.undo(result.plan, result.model) == model


def test_half_precision_layers_have_half_precision_scales() -> None:
    model = sandwiched(parse(BLOCK))
    result = qdqgraph.quantize(model, data=[{"x": f["x"].astype(np.float16)} for f in samples(model)], numerics=True)
    types = {t.data_type for t in result.model.graph.initializer}
    assert types <= {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8}
    assert not [n for n in result.model.graph.node if n.op_type == "Cast"]
    assert result.opset is not None and result.opset.after == 19
    assert result.numbers is not None and result.numbers.outputs["y"].sqnr > 30


def test_kept_statistics_are_a_table_of_the_same_network(tmp_path: Path) -> None:
    model, kept = parse(BLOCK), tmp_path / "kept.npz"
    measured = qdqgraph.quantize(model, data=samples(model), calibrate="mse", statistics=kept)
    again = qdqgraph.quantize(model, ranges=kept, calibrate="mse")
    assert scales(again.model) == scales(measured.model)
    with pytest.raises(CalibrationError, match="another network"):
        qdqgraph.quantize(parse(POOLED), ranges=kept)


REFUSED = {
    "neither data nor a table": ({}, "data, ranges, or both"),
    "data that give no scales": ({"data": [], "calibrate": "none"}, "give no scales"),
    "exact": ({"ranges": "t", "exact": True}, "quantize has no option 'exact'"),
    "keep_scales": ({"ranges": "t", "keep_scales": True}, "quantize has no option 'keep_scales'"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_arguments_that_make_no_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises((ModelError, qdqgraph.ArgumentError), match=message):
        qdqgraph.quantize(parse(BLOCK), **arguments)  # type: ignore[arg-type]


def test_a_model_with_pairs_is_for_fix(tmp_path: Path) -> None:
    cache = table(tmp_path, CACHE)
    result = qdqgraph.quantize(parse(BLOCK), ranges=cache)
    with pytest.raises(ModelError, match=r"is quantized already.*: qdqgraph fix MODEL"):
        qdqgraph.quantize(result.model, ranges=cache)
    with pytest.raises(ModelError, match="no QuantizeLinear"):
        qdqgraph.fix(parse(BLOCK), data=samples(parse(BLOCK)))


def test_nothing_to_quantize_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no layer can be quantized:\s+Conv\(a\): its input 'x' has no range"):
        qdqgraph.quantize(parse(BLOCK), ranges=table(tmp_path, {"y": 1.0}))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nets)
def test_random_networks_become_legal_close_and_can_be_undone(quantized: onnx.ModelProto) -> None:
    """A random float network, with all of its convolutions in INT8 and no finding left, gives close outputs; a second
    measurement against the same float network changes nothing; undo gives the float network."""
    model = float_model(quantized, Path()).model
    feeds = samples(model)
    result = qdqgraph.quantize(model, data=feeds, numerics=True)
    onnx.checker.check_model(result.model, full_check=True)
    assert not result.floats
    assert result.int8 is not None and result.int8[1].int8 == result.int8[1].weighted
    assert result.numbers is not None and not result.numbers.skipped
    assert all(a.sqnr > 15 or a.caveat for a in result.numbers.outputs.values())
    assert not [f for f in qdqgraph.check(result.model) if f.severity is qdqgraph.Severity.ERROR]
    assert qdqgraph.undo(result.plan, result.model) == model
    assert not qdqgraph.fix(result.model, data=feeds, reference=model).plan.edits


def test_weights_are_within_half_a_step() -> None:
    model = parse(BLOCK)
    result = qdqgraph.quantize(model, data=samples(model))
    floats = float_model(result.model, Path()).model
    given = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = {t.name.removesuffix("_dequantized"): numpy_helper.to_array(t) for t in floats.graph.initializer}
    for name in ("w", "v"):
        step = np.abs(given[name]).max(axis=(1, 2, 3), keepdims=True) / 127
        assert (np.abs(given[name] - found[name]) <= step / 2 * 1.001).all()

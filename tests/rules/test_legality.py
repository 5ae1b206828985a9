"""What TensorRT refuses is repaired: the numbers stay where that is possible, and what is lost is named."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qdqgraph
from qdqgraph import ModelError, Options, RepairError, Safety
from qdqgraph.calibration.agreement import agreement
from qdqgraph.engines.builders.builder import built as engine
from qdqgraph.engines.builders.how import Build, RefusedError
from qdqgraph.model import runtime
from qdqgraph.rulekit import Graph, pairs
from qdqgraph.verify import comparison
from tests.support.models import build

RULES = qdqgraph.rules()
LEGAL = [r for r in RULES if r.code.startswith("QDQ4")]
SHAPE = "float[1,2,3,3]"


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    name = model.graph.input[0].name
    return np.asarray(runtime.run(model, [{name: x}], Path())[0][0])


def one_pair(dtype: str, scale: float, zero_point: int) -> onnx.ModelProto:
    return build(
        f"""g ({SHAPE} x) => ({SHAPE} y) <float s = {{{scale!r}}}, {dtype} z = {{{zero_point}}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Neg (d) }}"""
    )


@given(
    integers=st.one_of(
        st.tuples(st.just("uint8"), st.integers(0, 255)), st.tuples(st.just("int8"), st.integers(-128, 127))
    ),
    scale=st.integers(1, 10_000).map(lambda n: n / 1024),
    seed=st.integers(0, 99),
)
def test_a_pair_with_any_zero_point_keeps_its_numbers_within_a_step(
    integers: tuple[str, int], scale: float, seed: int
) -> None:
    """Inside the old range the result is within half a new step of what stood there; a Relu in the range stays one."""
    dtype, zero_point = integers
    model = one_pair(dtype, scale, zero_point)
    result = qdqgraph.fix(model, LEGAL)
    x = np.random.default_rng(seed).uniform(-300 * scale, 300 * scale, (1, 2, 3, 3)).astype(np.float32)
    least = -128 if dtype == "int8" else 0
    low, high = (least - zero_point) * scale, (least + 255 - zero_point) * scale
    before, after = outputs(model, x), outputs(result.model, x)
    inside = (x >= low) & (x <= high)
    step = pairs(Graph(result.model)).at(next(iter(pairs(Graph(result.model)))).site)[0].value
    assert np.all(np.abs(before - after)[inside] <= 0.5 * step + 0.5 * scale + 1e-6)
    if low == 0:
        assert not np.any(-after < 0)
    assert not qdqgraph.check(result.model, LEGAL)


@given(seed=st.integers(0, 999), per_channel=st.booleans())
def test_uint8_around_128_is_int8_to_the_bit(seed: int, per_channel: bool) -> None:
    random = np.random.default_rng(seed)
    weights = ", ".join(map(str, random.integers(0, 256, 12)))
    size, axis = ("[3]", "<axis = 0>") if per_channel else ("[1]", "")
    count = 3 if per_channel else 1
    scales = ", ".join(f"{s:.9f}" for s in random.uniform(0.01, 0.1, count))
    model = build(
        f"""g (float[1,4,3,3] x) => (float[1,3,3,3] y) <float s = {{0.05}}, uint8 z = {{128}}, uint8[3,4,1,1] w = {{{weights}}},
            float{size} sw = {{{scales}}}, uint8{size} zw = {{{", ".join(["128"] * count)}}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
            k = DequantizeLinear {axis} (w, sw, zw) y = Conv (d, k) }}"""
    )
    result = qdqgraph.fix(model, LEGAL, Options(exact=True))
    x = random.uniform(-8, 8, (1, 4, 3, 3)).astype(np.float32)
    assert outputs(model, x).tobytes() == outputs(result.model, x).tobytes()
    assert {f.safety for f in result.applied} == {Safety.EXACT}
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()


def network(seed: int = 0) -> onnx.ModelProto:
    """A float network with what quantizers meet: Relu, a residual Add, MaxPool, Concat, a scalar constant, a Gemm."""
    random = np.random.default_rng(seed)

    def convolution(name: str, out: int, inside: int) -> str:
        values = ", ".join(f"{v:.6f}" for v in random.normal(0, 0.4, out * inside * 9))
        bias = ", ".join(f"{v:.6f}" for v in random.normal(0, 0.1, out))
        return f"float[{out},{inside},3,3] w{name} = {{{values}}}, float[{out}] b{name} = {{{bias}}}"

    head = ", ".join(f"{v:.6f}" for v in random.normal(0, 0.3, 16 * 4))
    constants = ", ".join([convolution("1", 8, 3), convolution("2", 8, 8), convolution("3", 8, 8)])
    text = f"""<ir_version: 8, opset_import: ["" : 13]>
        g (float[1,3,16,16] x) => (float[1,4] y) <{constants}, float[16,4] wh = {{{head}}}, float[4] bh = {{0.1, 0, -0.1, 0}},
            float three = {{3}}> {{
        c1 = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)  r1 = Relu (c1)
        c2 = Conv <pads = [1, 1, 1, 1]> (r1, w2, b2)  r2 = Relu (c2)
        c3 = Conv <pads = [1, 1, 1, 1]> (r2, w3, b3)  a = Add (c3, r1)  r3 = Relu (a)
        p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r3)  p2 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r1)
        k = Concat <axis = 1> (p, p2)  h = HardSigmoid (k)  m = Mul (h, k)  t = Add (m, three)
        v = GlobalAveragePool (t)  f = Flatten (v)  y = Gemm (f, wh, bh) }}"""
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return model


FORMS: dict[str, dict[str, object]] = {
    "qdq": {},
    "qdq-uint8": {"activation_type": "QUInt8", "weight_type": "QUInt8"},
    "qdq-u8s8": {"activation_type": "QUInt8", "weight_type": "QInt8"},
    "qdq-per-channel": {"per_channel": True},
    "qoperator": {"quant_format": "QOperator"},
    "qoperator-per-channel": {"quant_format": "QOperator", "per_channel": True},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_onnxruntime_quantizes_becomes_legal_and_stays_the_same_network(form: str, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    random = np.random.default_rng(1)
    samples = [random.uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32) for _ in range(6)]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.left = iter([{"x": s} for s in samples])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    source, path = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    onnx.save(network(), source)
    types = {"QUInt8": quantization.QuantType.QUInt8, "QInt8": quantization.QuantType.QInt8}
    formats = {"QOperator": quantization.QuantFormat.QOperator}
    options = {name: types.get(str(v), formats.get(str(v), v)) for name, v in FORMS[form].items()}
    quantization.quantize_static(str(source), str(path), Reader(), **options)
    assert any(f.severity.value == "error" for f in qdqgraph.check(path))
    result = qdqgraph.fix(path)
    onnx.checker.check_model(result.model, full_check=True)
    assert {n.op_type for n in result.model.graph.node} >= {"QuantizeLinear", "DequantizeLinear", "Relu", "Conv"}
    assert not any(n.domain for n in result.model.graph.node)
    feeds = [{"x": s} for s in samples]
    agreement = comparison.compare(onnx.load(path), result.model, feeds, tmp_path)["y"]
    assert agreement.sqnr > 20
    assert result.plan.inverse().apply(result.model).SerializeToString() == onnx.load(path).SerializeToString()
    pytest.importorskip("tensorrt_rtx")
    fixed = tmp_path / "fixed.onnx"
    onnx.save(result.model, fixed)
    with pytest.raises(RefusedError):
        engine(path, "tensorrt-rtx", Build())
    built = [k for k in engine(fixed, "tensorrt-rtx", Build()).layers if k.kind == "correlation"]
    assert len(built) == 3 and all(k.precision == "INT8" for k in built)


def test_dynamic_quantization_keeps_its_weights_and_runs_in_floating_point(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, path = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    onnx.save(network(), source)
    quantization.quantize_dynamic(str(source), str(path), weight_type=quantization.QuantType.QInt8)
    assert "ConvInteger" in {n.op_type for n in onnx.load(path).graph.node}
    result = qdqgraph.fix(path)
    found = {n.op_type for n in result.model.graph.node}
    assert "Conv" in found and not found & {"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear"}
    feeds = [{"x": np.random.default_rng(2).uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32)}]
    assert comparison.compare(onnx.load(source), result.model, feeds, tmp_path)["y"].sqnr > 20


def test_weights_are_rounded_anew_from_what_they_stand_for_for_each_channel() -> None:
    """The first channel is 254 steps wide and gets a scale twice as large; the second keeps its scale and numbers."""
    model = build(
        """g (float[1,1,4,4] x) => (float[1,2,4,4] y) <float s = {0.1}, int8 z = {0}, uint8[2,1,1,1] w = {255, 21},
            float sw = {0.5}, uint8 zw = {1}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) k = DequantizeLinear (w, sw, zw) y = Conv (d, k) }"""
    )
    graph = Graph(qdqgraph.fix(model, LEGAL).model)
    pair = pairs(graph).made("k")
    assert pair is not None and pair.scale is not None and pair.axis == 0
    integers = graph.array(pair.tensor)
    assert integers is not None and integers.reshape(-1).tolist() == [127, 20]
    assert pair.scale.tolist() == [1.0, 0.5]


def test_a_file_that_cannot_be_repaired_is_refused_node_by_node() -> None:
    model = build(
        f"""g ({SHAPE} x) => ({SHAPE} y, {SHAPE} v) <float a = {{0}}, float b = {{0.1}}, int8 z = {{0}}, uint8 u = {{3}}> {{
            q = QuantizeLinear (x, a, z) y = DequantizeLinear (q, a, z)
            p = QuantizeLinear (x, b, u) v = DequantizeLinear (p, a, u) }}"""
    )
    with pytest.raises(RepairError) as error:
        qdqgraph.fix(model)
    assert "q: QDQ403 the scale of 'x' is 0" in str(error.value) and "p: QDQ402" in str(error.value)


@pytest.mark.parametrize("target, axis", [("trt-8.6", 0), ("trt-10", 1), ("trt-11", 1)])
def test_the_target_decides_the_axis_of_a_transposed_convolution(target: str, axis: int) -> None:
    values = ", ".join(map(str, np.random.default_rng(0).integers(-99, 99, 24)))
    for axis_given, size in ((0, 2), (1, 3)):
        scales, zeros = ", ".join(["0.1", "0.2", "0.3"][:size]), ", ".join(["0"] * size)
        model = build(
            f"""g (float[1,2,4,4] x) => (float[1,3,8,8] y) <float s = {{0.1}}, int8 z = {{0}}, int8[2,3,2,2] w = {{{values}}},
                float[{size}] sw = {{{scales}}}, int8[{size}] zw = {{{zeros}}}> {{
                q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
                k = DequantizeLinear <axis = {axis_given}> (w, sw, zw) y = ConvTranspose <strides = [2, 2]> (d, k) }}"""
        )
        result = qdqgraph.fix(model, target=target)
        pair = pairs(Graph(result.model)).made("k")
        assert pair is not None and pair.axis == axis
        assert bool(result.applied) == (axis_given != axis)
        x = np.random.default_rng(1).uniform(-8, 8, (1, 2, 4, 4)).astype(np.float32)
        assert agreement([outputs(model, x)], [outputs(result.model, x)]).sqnr > 35


def test_initializers_that_stand_twice_are_left_once() -> None:
    model = one_pair("int8", 0.1, 0)
    model.graph.initializer.append(model.graph.initializer[-1])
    result = qdqgraph.fix(model, LEGAL)
    onnx.checker.check_model(result.model)
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    model.graph.initializer[-1].ClearField("int32_data")
    model.graph.initializer[-1].int32_data.append(7)
    with pytest.raises(ModelError, match=r"two initializers named '\w+' with different values"):
        qdqgraph.fix(model)


@given(dtype=st.sampled_from(["uint8", "int8"]), zero_point=st.integers(-128, 127), seed=st.integers(0, 99))
def test_integers_that_the_network_takes_and_gives_keep_their_type(dtype: str, zero_point: int, seed: int) -> None:
    zero_point += 128 if dtype == "uint8" else 0
    model = build(
        f"""g ({dtype}[1,2,3,3] x) => ({dtype}[1,2,3,3] y) <float s = {{0.05}}, float t = {{0.07}}, {dtype} z = {{{zero_point}}}> {{
            d = DequantizeLinear (x, s, z) a = Relu (d) y = QuantizeLinear (a, t, z) }}"""
    )
    result = qdqgraph.fix(model, LEGAL)
    bounds = np.iinfo(dtype)
    x = np.random.default_rng(seed).integers(bounds.min, bounds.max, (1, 2, 3, 3), endpoint=True).astype(dtype)
    before, after = outputs(model, x), outputs(result.model, x)
    assert before.dtype == after.dtype == dtype
    assert np.all(np.abs(before.astype(int) - after.astype(int)) <= 1)


# Weights in either form, and layers without pairs


def stored(model: onnx.ModelProto) -> list[str]:
    graph = Graph(model)
    return [str(graph.array(p.tensor).dtype) for p in pairs(graph) if p.kind == "weight"]  # type: ignore[union-attr]


def test_weights_are_stored_as_integers_or_as_floats_and_no_number_changes() -> None:
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")
    x = np.random.default_rng(0).uniform(-9, 9, (1, 4, 8, 8)).astype(np.float32)
    assert stored(model) == ["int8"]
    floats = qdqgraph.fix(model, weights="float").model
    integers = qdqgraph.fix(floats, weights="int8").model
    assert stored(floats) == ["float32"] and stored(integers) == ["int8"]
    assert outputs(model, x).tobytes() == outputs(floats, x).tobytes() == outputs(integers, x).tobytes()
    assert not qdqgraph.fix(integers, weights="int8").plan.edits


def test_a_quantizelinear_in_place_of_int8_weights_without_a_zero_point_gives_int8() -> None:
    """Without a zero-point, a DequantizeLinear takes the type of its input, a QuantizeLinear makes UINT8."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x) => (float[1,2,4,4] y)
           <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {64,-32}, float[2] sw = {0.01,0.02}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
            k = DequantizeLinear <axis = 0> (w, sw) y = Conv (d, k) }"""
    )
    x = np.random.default_rng(0).uniform(-9, 9, (1, 1, 4, 4)).astype(np.float32)
    floats = qdqgraph.fix(model, weights="float").model
    assert stored(floats) == ["float32"] and outputs(model, x).tobytes() == outputs(floats, x).tobytes()
    assert not qdqgraph.fix(floats, weights="float", also=("QDQ402",)).plan.edits


@pytest.mark.parametrize("dtype, top", [("uint8", 255), ("uint16", 65535)])
def test_a_clip_that_a_pair_stood_for_stays_when_the_pair_goes(dtype: str, top: int) -> None:
    """quantize_static takes Clip(0, 6) out in front of an asymmetric pair: 16-bit pairs and stripped layers keep it."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        g ({SHAPE} x) => ({SHAPE} y) <float s = {{{6 / top!r}}}, {dtype} z = {{0}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Neg (d) }}"""
    )
    result = qdqgraph.strip(model, ["y"]) if dtype == "uint8" else qdqgraph.fix(model, LEGAL)
    x = np.linspace(-9, 9, 18, dtype=np.float32).reshape(1, 2, 3, 3)
    assert np.allclose(outputs(result.model, x), -np.clip(x, 0, 6), atol=1e-5)


def test_an_asymmetric_activation_per_channel_keeps_each_channel() -> None:
    """One scale would leave nothing of the finest channel; without its pair the tensor keeps its limits."""
    model = build(
        f"""g ({SHAPE} x) => ({SHAPE} y) <float[2] s = {{0.0001, 0.1}}, uint8[2] z = {{0, 10}}> {{
            q = QuantizeLinear <axis = 1> (x, s, z) d = DequantizeLinear <axis = 1> (q, s, z) y = Neg (d) }}"""
    )
    result = qdqgraph.fix(model)
    x = np.linspace(-40, 40, 18, dtype=np.float32).reshape(1, 2, 3, 3)
    assert np.abs(outputs(model, x) - outputs(result.model, x)).max(axis=(0, 2, 3)) == pytest.approx(
        [0, 0.05], abs=0.06
    )
    assert "with one scale the finest channel would lose" in result.applied[0].help


def test_pairs_along_different_axes_are_different_pairs() -> None:
    model = build(
        """g (float[1,2,3,3] x) => (float[1,2,3,3] y, float[1,2,3,3] v) <float s = {0.1}, int8 z = {0}, uint8[2,2,1,1] w = {1, 200, 90, 255},
            float[2] sw = {0.01, 0.5}, uint8[2] zw = {128, 128}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
            k = DequantizeLinear <axis = 0> (w, sw, zw) k2 = DequantizeLinear <axis = 1> (w, sw, zw)
            y = Conv (d, k) v = Conv (d, k2) }"""
    )
    x = np.random.default_rng(0).uniform(-9, 9, (1, 2, 3, 3)).astype(np.float32)
    feeds = [{"x": x}]
    found = comparison.compare(model, qdqgraph.fix(model, LEGAL).model, feeds, Path())
    assert found["y"].identical and found["v"].sqnr > 35


def test_dynamic_quantization_with_another_zero_point_is_refused() -> None:
    model = build(
        """g (float[1,2] x) => (float[1,2] y) <int8[2,2] w = {64, 32, 16, 8}, float sw = {0.01}> {
            q, s, z = DynamicQuantizeLinear (x) i = MatMulInteger (q, w) f = Cast <to = 1> (i) m = Mul (s, sw) y = Mul (f, m) }"""
    )
    with pytest.raises(RepairError, match="QDQ411 TensorRT has no MatMulInteger"):
        qdqgraph.fix(model)

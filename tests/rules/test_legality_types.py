"""Weights of 4 bits, constants under several names, integers of onnxruntime's own domain: legal, and the same numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qdqgraph
from qdqgraph import EngineError, ModelError, RepairError, Safety, Severity
from qdqgraph.calibration.agreement import Agreement
from qdqgraph.calibration.noise import noise
from qdqgraph.rulekit import Graph, pairs
from qdqgraph.verify import comparison
from tests.support.engines import builds

RANDOM = np.random.default_rng(5)


def parsed(text: str, opset: int = 21, **constants: np.ndarray | onnx.TensorProto) -> onnx.ModelProto:
    """A model from its graph's text; arrays and tensors become initializers."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'
    model = onnx.parser.parse_model(head + text)
    for name, value in constants.items():
        tensor = numpy_helper.from_array(value, name) if isinstance(value, np.ndarray) else value
        model.graph.initializer.append(tensor)
        model.graph.initializer[-1].name = name
    return model


def stored(kind: int, shape: list[int], values: list[int]) -> onnx.TensorProto:
    """An initializer of a type that numpy lacks."""
    return helper.make_tensor("", kind, shape, values)


def scale(value: float, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.float32)


ZERO, STEP = np.zeros((), np.int8), scale(0.05)


def settled(model: onnx.ModelProto, **options: Any) -> qdqgraph.Result:
    """The repair: valid, undone to the byte, silent the second time."""
    result = qdqgraph.fix(model, **options)
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    assert not qdqgraph.fix(result.model, **options).plan.edits
    return result


def agreement(before: onnx.ModelProto, after: onnx.ModelProto) -> Agreement:
    return comparison.compare(before, after, noise(before, 2), Path())["y"]


def int8_layers(model: onnx.ModelProto, folder: Path) -> int:
    """How many convolutions and matrix products TensorRT-RTX runs in INT8; skipped where it is not installed."""
    layers = builds(model, folder)
    return sum(k.kind in ("correlation", "gemm") and any(t.precision == "INT8" for t in k.inputs) for k in layers)


@pytest.mark.parametrize("op", ["Conv", "MatMul"])
@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("kind, zero", [(TensorProto.INT4, 0), (TensorProto.UINT4, 8), (TensorProto.UINT4, 3)])
def test_4_bit_weights_beside_int8_become_int8_of_the_same_numbers(
    op: str, channels: bool, kind: int, zero: int, tmp_path: Path
) -> None:
    """TensorRT multiplies one type only: "Input and filter have to be the same type", it says of INT4 with INT8."""
    shape, x, axis = ([8, 16, 1, 1], "float[1,16,6,6]", 0) if op == "Conv" else ([16, 8], "float[4,16]", 1)
    low, high = (-8, 8) if kind == TensorProto.INT4 else (0, 16)
    along = [8] if channels else []
    model = parsed(
        f"""g ({x} x) => (float[{"1,8,6,6" if op == "Conv" else "4,8"}] y) {{
            q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
            k = DequantizeLinear <axis = {axis}> (w, t, o)  y = {op} (d, k) }}""",
        s=STEP,
        z=ZERO,
        t=RANDOM.uniform(0.1, 0.2, along).astype(np.float32),
        w=stored(kind, shape, RANDOM.integers(low, high, int(np.prod(shape))).tolist()),
        o=stored(kind, along, [zero] * int(np.prod(along))),
    )
    result = settled(model, exact=True)
    assert "QDQ402" in {f.code for f in result.applied} and agreement(model, result.model).identical
    assert int8_layers(result.model, tmp_path) == 1


def test_4_bit_weights_that_the_graph_quantizes_are_rounded_to_4_bits_and_stored_as_int8(tmp_path: Path) -> None:
    """The DequantizeLinear alone stays; what the 4 bits clipped stays clipped."""
    model = parsed(
        """g (float[4,16] x) => (float[4,8] y) { q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
            i = QuantizeLinear (w, t, o)  k = DequantizeLinear (i, t, o)  y = MatMul (d, k) }""",
        s=STEP,
        z=ZERO,
        t=scale(0.1),
        w=RANDOM.normal(0, 1, (16, 8)).astype(np.float32),
        o=stored(TensorProto.INT4, [], [0]),
    )
    result = settled(model, exact=True)
    pair = pairs(Graph(result.model)).made("k")
    assert pair is not None and pair.quantize is None and agreement(model, result.model).identical
    assert int8_layers(result.model, tmp_path) == 1


def test_fp8_weights_beside_int8_are_rounded_anew_and_fp8_inputs_beside_int8_weights_are_named(tmp_path: Path) -> None:
    text = """g (float[4,16] x) => (float[4,8] y) { q = QuantizeLinear (x, s, a)  d = DequantizeLinear (q, s, a)
        i = QuantizeLinear (w, t, b)  k = DequantizeLinear (i, t, b)  y = MatMul (d, k) }"""
    weights, fp8 = RANDOM.normal(0, 1, (16, 8)).astype(np.float32), stored(TensorProto.FLOAT8E4M3FN, [], [0])
    model = parsed(text, s=STEP, a=ZERO, t=scale(0.02), b=fp8, w=weights)
    result = settled(model)
    assert agreement(model, result.model).sqnr > 25 and int8_layers(result.model, tmp_path) == 1
    with pytest.raises(
        RepairError, match="'w' is quantized to INT8 and multiplied by FLOAT8_E4M3FN; TensorRT requires"
    ):
        qdqgraph.fix(parsed(text, s=STEP, a=fp8, t=scale(0.02), b=ZERO, w=weights))


def test_a_constant_that_two_operators_read_under_two_names_is_quantized_once_for_each() -> None:
    """PyTorch's exporter stores equal weights once, with an Identity for the second; quantize_static quantizes both."""
    model = parsed(
        """g (float[1,4] x) => (float[1,4] y) {
            i = QuantizeLinear (w, s, u)  k = DequantizeLinear (i, s, u)  a = Mul (x, k)
            v = Identity (k)  j = QuantizeLinear (v, s, u)  l = DequantizeLinear (j, s, u)  y = Add (a, l) }""",
        s=STEP,
        u=np.array(-128, np.int8),
        w=np.array([0.5, 1, 1.5, 2], np.float32),
    )
    result = settled(model)
    assert not len(pairs(Graph(result.model))) and agreement(model, result.model).identical


def test_weights_behind_a_reshape_and_a_cast_are_read(tmp_path: Path) -> None:
    model = parsed(
        """g (float[1,4,6,6] x) => (float[1,4,6,6] y) { q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
            f = Cast <to = 1> (w)  r = Reshape (f, shape)  i = QuantizeLinear (r, t, u)  k = DequantizeLinear (i, t, u)
            y = Conv (d, k) }""",
        s=STEP,
        z=ZERO,
        t=scale(0.01),
        u=np.array(7, np.int8),
        w=RANDOM.normal(0, 0.3, (4, 4)).astype(np.float16),
        shape=np.array([4, 4, 1, 1]),
    )
    result = settled(model)
    assert agreement(model, result.model).sqnr > 30 and int8_layers(result.model, tmp_path) == 1


@pytest.mark.parametrize("kind, least", [(TensorProto.INT32, 13), (TensorProto.INT4, 21), (TensorProto.INT16, 21)])
def test_pairs_of_onnxruntimes_domain_become_standard_ones_in_the_operator_set_that_has_them(
    kind: int, least: int
) -> None:
    """Below operator set 21 quantize_static writes all pairs in its own domain where weights have 4 bits."""
    model = parsed(
        """g (float[1,4] x) => (float[1,4] y) { k = com.microsoft.DequantizeLinear (w, t, o)  y = Add (x, k)
            q = com.microsoft.QuantizeLinear (y, t, z) }""",
        11,
        t=scale(0.1),
        z=ZERO,
        w=stored(kind, [4], [1, 2, 3, 4]),
        o=stored(kind, [], [0]),
    )
    result = qdqgraph.fix(model)
    assert result.model.opset_import[0].version == least and not any(n.domain for n in result.model.graph.node)


def test_a_16_bit_pair_that_nobody_reads_goes() -> None:
    model = parsed(
        """g (float[1,4] x) => (float[1,4] y) { y = Relu (x)  q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z) }""",
        s=STEP,
        z=np.zeros((), np.int16),
    )
    assert [n.op_type for n in settled(model).model.graph.node] == ["Relu"]


def test_a_cubic_resize_of_integers_interpolates_real_numbers(tmp_path: Path) -> None:
    """onnxruntime's QOperator form resizes integers, which it cannot run for cubic itself."""
    model = parsed(
        """g (float[1,4,4,4] x) => (float[1,4,8,8] y) { q = QuantizeLinear (x, s, u)
            r = Resize <mode = "cubic"> (q, , scales)  y = DequantizeLinear (r, s, u) }""",
        s=STEP,
        u=np.array(14, np.int8),
        scales=np.array([1, 1, 2, 2], np.float32),
    )
    result = settled(model)
    assert [f.safety.value for f in result.applied if f.code == "QDQ414"] == ["lossy"]
    assert builds(result.model, tmp_path)


def test_a_node_that_its_operator_set_lacks_is_no_obstacle_to_a_later_set() -> None:
    """ESP-PPQ writes HardSwish, which came with operator set 14, into a file of 13."""
    model = parsed(
        "g (float[1,4] x) => (float[1,4] y) { h = HardSwish (x)  q = QuantizeLinear (h, s, z)  y = DequantizeLinear (q, s, z) }",
        13,
        s=STEP,
        z=ZERO,
    )
    half = qdqgraph.to_fp16(model).model
    onnx.checker.check_model(half, full_check=True)
    assert [n.op_type for n in half.graph.node] == ["HardSwish", "QuantizeLinear", "DequantizeLinear"]


def test_a_constant_that_is_joined_to_an_activation_is_stored_as_floats(tmp_path: Path) -> None:
    """The class token of a vision transformer. TensorRT-RTX builds it in either form."""
    model = parsed(
        """g (float[1,4,8] x) => (float[1,5,8] y) { q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
            k = DequantizeLinear (w, t, z)  c = Concat <axis = 1> (k, d)
            r = QuantizeLinear (c, s, z)  y = DequantizeLinear (r, s, z) }""",
        s=STEP,
        z=ZERO,
        t=scale(0.03),
        w=RANDOM.integers(-100, 100, (1, 1, 8)).astype(np.int8),
    )
    result = settled(model, exact=True)
    (found,) = [f for f in result.applied if f.code == "QDQ406"]
    assert found.severity is Severity.WARNING and agreement(model, result.model).identical
    assert builds(model, tmp_path) and builds(result.model, tmp_path)


ADDED = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
    q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
    k = DequantizeLinear (c, s, z)  m = Add (d, k)  r = QuantizeLinear (m, s, z)  y = DequantizeLinear (r, s, z) }"""


@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 8, 8)])
def test_of_int8_constants_tensorrt_refuses_those_without_dimensions(shape: tuple[int, ...], tmp_path: Path) -> None:
    model = parsed(ADDED, s=STEP, z=ZERO, c=RANDOM.integers(1, 100, shape).astype(np.int8))
    (found,) = [f for f in qdqgraph.check(model) if f.code == "QDQ406"]
    assert found.severity is (Severity.WARNING if shape else Severity.ERROR)
    result = settled(model, exact=True)
    assert agreement(model, result.model).identical and builds(result.model, tmp_path)
    if shape:
        assert builds(model, tmp_path)
    else:
        with pytest.raises(EngineError, match="Quantized constant"):
            builds(model, tmp_path)


@pytest.mark.parametrize(
    "constant",
    [
        np.array([1, 2, 3, 4], np.int32).reshape(4, 1, 1),
        np.array([1, 2, 3, 4], np.uint8).reshape(4, 1, 1),
    ],
)
def test_a_constant_of_another_type_is_an_error(constant: np.ndarray) -> None:
    model = parsed(ADDED.replace("(c, s, z)", "(c, s)"), s=STEP, z=ZERO, c=constant)
    (found,) = [f for f in qdqgraph.check(model) if f.code == "QDQ406"]
    assert found.severity is Severity.ERROR and not pairs(Graph(settled(model).model)).at("c")


def test_a_constant_of_a_product_in_fp16_behind_a_cast_is_no_weight() -> None:
    model = parsed(
        """g (float16[1,4] x) => (float16[1,4] y) { i = QuantizeLinear (w, s, z)  k = DequantizeLinear (i, s, z)
            h = Cast <to = 10> (k)  y = Mul (x, h) }""",
        s=STEP,
        z=ZERO,
        w=np.array([0.5, 1, 1.5, 2], np.float32),
    )
    assert not len(pairs(Graph(settled(model).model)))


def test_a_constant_whose_data_lie_in_another_file_is_read(tmp_path: Path) -> None:
    """Constants of nodes may have external data as initializers do."""
    model = parsed(
        """g (float[4] x) => (float[4] y) { w = Constant <value = float[4] {1, 2, 3, 4}> ()  m = Mul (x, w)
            q = QuantizeLinear (m, s, u)  y = DequantizeLinear (q, s, u) }""",
        s=STEP,
        u=np.array(100, np.uint8),
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="data", size_threshold=0, convert_attribute=True)
    value = Graph(onnx.load(path, load_external_data=False), tmp_path).value("w")
    assert value is not None and value.tolist() == [1, 2, 3, 4]
    assert qdqgraph.fix(path).applied


@pytest.mark.parametrize("op", ["DynamicQuantizeMatMul", "MatMulIntegerToFloat"])
def test_a_product_of_two_dynamic_inputs_is_one_of_what_they_were(op: str) -> None:
    inputs = "a, r, t, u, b" if op == "DynamicQuantizeMatMul" else "q, r, s, t, z, u, b"
    first = "q, s, z = DynamicQuantizeLinear (a)" if op == "MatMulIntegerToFloat" else ""
    model = parsed(
        f"""g (float[2,4] a, float[4,3] c) => (float[2,3] y) {{ {first} r, t, u = DynamicQuantizeLinear (c)
            y = com.microsoft.{op} ({inputs}) }}""",
        b=np.array([1, 2, 3], np.float32),
    )
    result = settled(model)
    assert [n.op_type for n in result.model.graph.node] == ["MatMul", "Add"]
    assert agreement(model, result.model).sqnr > 25


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("rows", [32, 40])
def test_a_product_that_unpacks_its_weights_reads_real_ones(
    bits: int, symmetric: bool, rows: int, tmp_path: Path
) -> None:
    """What MatMulNBitsQuantizer writes; rows that fill no whole block, too. 4 bits around 8 stay INT4 in blocks."""
    nbits = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    plain = parsed(
        f"g (float[2,{rows}] x) => (float[2,8] y) {{ m = MatMul (x, w)  y = Add (m, b) }}",
        17,
        w=RANDOM.normal(0, 1, (rows, 8)).astype(np.float32),
        b=RANDOM.normal(0, 1, 8).astype(np.float32),
    )
    made = nbits.MatMulNBitsQuantizer(plain, block_size=16, is_symmetric=symmetric, bits=bits)
    made.process()
    model = made.model.model
    assert "MatMulNBits" in {n.op_type for n in model.graph.node}
    result = settled(model)
    kinds = {n.op_type for n in result.model.graph.node}
    assert "DequantizeLinear" not in kinds  # scales below zero, other zero-points, 8 bits: floats
    assert agreement(model, result.model).sqnr > 60
    assert builds(result.model, tmp_path)


def test_blocks_along_an_axis_that_their_scales_do_not_fit_get_the_one_that_fits(tmp_path: Path) -> None:
    """Model Optimizer writes axis 0 for INT4 weights of a Gemm with transB, whose blocks run along axis 1."""
    model = parsed(
        """g (float[2,32] x) => (float[2,8] y) { k = DequantizeLinear <axis = 0, block_size = 16> (w, t)
            y = Gemm <transB = 1> (x, k) }""",
        w=stored(TensorProto.INT4, [8, 32], RANDOM.integers(-8, 8, 256).tolist()),
        t=scale(0.1, 8, 2),
    )
    result = settled(model)
    assert [f.code for f in result.applied] == ["QDQ405"]
    (node,) = (n for n in result.model.graph.node if n.op_type == "DequantizeLinear")
    assert {a.name: a.i for a in node.attribute} == {"axis": 1, "block_size": 16}
    assert builds(result.model, tmp_path)


@pytest.mark.parametrize("sign", [1, -1])
def test_4_bit_weights_around_8_stay_int4_in_blocks_where_their_scales_are_positive(sign: int) -> None:
    """onnxruntime's quantizer makes a scale negative where the larger number of a block is; TensorRT takes none."""
    packed = RANDOM.integers(0, 256, (8, 2, 8)).astype(np.uint8)
    model = parsed(
        """g (float[2,32] x) => (float[2,8] y) {
            y = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 4, block_size = 16> (x, w, t) }""",
        w=packed,
        t=(sign * RANDOM.uniform(0.1, 0.2, 16)).astype(np.float32),
    )
    result = settled(model)
    dequantized = [n for n in result.model.graph.node if n.op_type == "DequantizeLinear"]
    assert len(dequantized) == (sign > 0) and agreement(model, result.model).sqnr > 60
    text = """g (float[2,32] x) => (float[2,8] y) { k = DequantizeLinear <axis = 0, block_size = 16> (w, t)
        y = MatMul (x, k) }"""
    blocks = parsed(
        text,
        w=stored(TensorProto.INT4, [32, 8], RANDOM.integers(-8, 8, 256).tolist()),
        t=(sign * RANDOM.uniform(0.1, 0.2, (2, 8))).astype(np.float32),
    )
    after = settled(blocks)
    assert [f.code for f in after.applied] == (["QDQ403"] if sign < 0 else [])
    assert agreement(blocks, after.model).identical


@pytest.mark.parametrize("quantized", [True, False])
def test_a_constant_in_fp8_that_is_no_weight_is_stored_as_floats(quantized: bool) -> None:
    """What FP8 clipped stays clipped."""
    body = (
        "i = QuantizeLinear (w, s, z) k = DequantizeLinear (i, s, z)" if quantized else "k = DequantizeLinear (w, s, z)"
    )
    values = [0.5, -3, 17.3, 1000.0]
    model = parsed(
        f"g (float[1,4] x) => (float[1,4] y) {{ {body} y = Mul (x, k) }}",
        s=scale(0.5),
        z=stored(TensorProto.FLOAT8E4M3FN, [], [0]),
        w=np.array(values, np.float32)
        if quantized
        else helper.make_tensor("", TensorProto.FLOAT8E4M3FN, [4], [v * 2 for v in values[:3]] + [448.0]),
    )
    result = settled(model, exact=True)
    value = Graph(result.model).value("k")
    assert value is not None and value[3] == 224 and agreement(model, result.model).identical


@pytest.mark.parametrize("size", ["K = 16, N = 1, bits = 4, block_size = -16", "K = 16, N = 1, block_size = 0"])
def test_sizes_of_a_packed_product_that_cannot_be_are_left(size: str) -> None:
    model = parsed(
        f"g (float[1,16] x) => (float[1,1] y) {{ y = com.microsoft.MatMulNBits <{size}> (x, w, t) }}",
        w=np.zeros((1, 1, 8), np.uint8),
        t=np.ones(1, np.float32),
    )
    assert "QDQ418" in {f.code for f in qdqgraph.check(model)}


def test_an_activation_in_uint4_stays_in_floating_point_and_is_clipped_as_before() -> None:
    """The range of the pair is that of a Relu, which exporters remove. Its rounding goes, so this is not bit-exact."""
    model = parsed(
        """g (float[1,4] x) => (float[1,4] y) { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
        y = Neg (d) }""",
        s=scale(0.1),
        z=stored(TensorProto.UINT4, [], [0]),
    )
    (finding,) = (f for f in qdqgraph.check(model) if f.code == "QDQ402")
    assert finding.safety is Safety.LOSSY and finding.help == "leave it in floating point"
    new = settled(model).model
    clip = next(n for n in new.graph.node if n.op_type == "Clip")
    limits = {t.name: float(numpy_helper.to_array(t)) for t in new.graph.initializer}
    assert [limits[name] for name in clip.input[1:]] == [0.0, 1.5]


def test_a_shape_that_the_file_declares_wrongly_behind_a_foreign_operator_is_named() -> None:
    """onnx takes the outputs of operators that it does not know as they are declared."""
    model = parsed(
        """g (float[1,4] x) => (float[1,3] y) {
            q = com.microsoft.QuantizeLinear (x, s, z) y = com.microsoft.DequantizeLinear (q, s, z) }""",
        s=scale(0.1),
        z=ZERO,
    )
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(
        ModelError, match=r"the file declares 'y' otherwise .* operators of com.microsoft: correct the decl"
    ):
        qdqgraph.fix(model)

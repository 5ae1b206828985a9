"""Quantized operators of onnxruntime: each becomes Q/DQ that TensorRT builds, or is refused with a reason of its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import qdqgraph
from qdqgraph import ModelError, RepairError
from qdqgraph.calibration.noise import noise
from qdqgraph.model import runtime
from qdqgraph.verify import comparison
from tests.support.engines import builds

RANDOM = np.random.default_rng(0)
HEAD = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1, "com.microsoft.nchwc" : 1]>\n'


def parsed(text: str, /, opset: int = 17, **constants: np.ndarray) -> onnx.ModelProto:
    """A model from its graph's text; arrays become initializers."""
    model = onnx.parser.parse_model(HEAD.replace("{opset}", str(opset)) + text)
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in constants.items())
    return model


def weights(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 0.3, shape).astype(np.float32)


def settled(model: onnx.ModelProto, feeds: list[dict[str, np.ndarray]]) -> tuple[onnx.ModelProto, float]:
    """The repaired model, valid, undone to the byte and unchanged by a second run; its worst SQNR."""
    result = qdqgraph.fix(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    assert not qdqgraph.fix(result.model).plan.edits
    found = comparison.compare(model, result.model, feeds, Path())
    return result.model, min(a.sqnr for a in found.values())


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def transformer() -> onnx.ModelProto:
    """Embedding, one attention head of two, LayerNormalization, a feed-forward block."""
    return parsed(
        """g (int64[1,6] ids) => (float[1,6,16] y) {
            e = Gather (table, ids)  x = Add (e, places)  n = LayerNormalization (x, ones, zeros)
            q0 = MatMul (n, wq)  k0 = MatMul (n, wk)  v0 = MatMul (n, wv)
            q1 = Reshape (q0, heads)  q = Transpose <perm = [0, 2, 1, 3]> (q1)
            k1 = Reshape (k0, heads)  k = Transpose <perm = [0, 2, 3, 1]> (k1)
            v1 = Reshape (v0, heads)  v = Transpose <perm = [0, 2, 1, 3]> (v1)
            s0 = MatMul (q, k)  s = Mul (s0, root)  p = Softmax (s)  o0 = MatMul (p, v)
            o1 = Transpose <perm = [0, 2, 1, 3]> (o0)  o2 = Reshape (o1, whole)  o = MatMul (o2, wo)  r = Add (o, x)
            m = LayerNormalization (r, ones, zeros)  f1 = MatMul (m, w1)  f2 = Relu (f1)  f0 = MatMul (f2, w2)  y = Add (f0, r) }""",
        table=weights(20, 16),
        places=weights(6, 16),
        ones=np.ones(16, np.float32),
        zeros=np.zeros(16, np.float32),
        root=np.array(0.35, np.float32),
        heads=np.array([1, 6, 2, 8]),
        whole=np.array([1, 6, 16]),
        w1=weights(16, 32),
        w2=weights(32, 16),
        wq=weights(16, 16),
        wk=weights(16, 16),
        wv=weights(16, 16),
        wo=weights(16, 16),
    )


def perceptron() -> onnx.ModelProto:
    return parsed(
        "g (float[2,16] x) => (float[2,4] y) { a = Gemm <transB = 1> (x, w1, b1)  b = Relu (a)  c = Gemm (b, w2, b2)  y = Tanh (c) }",
        w1=weights(8, 16),
        b1=weights(8),
        w2=weights(8, 4),
        b2=weights(4),
    )


def recurrent() -> onnx.ModelProto:
    return parsed(
        'g (float[5,1,8] x) => (float[5,2,1,6] y) { y = LSTM <hidden_size = 6, direction = "bidirectional"> (x, w, r, b) }',
        w=weights(2, 24, 8),
        r=weights(2, 24, 6),
        b=weights(2, 48),
    )


@pytest.mark.parametrize("network", [transformer, perceptron, recurrent])
@pytest.mark.parametrize("form", ["QInt8", "QUInt8", "QInt8 per channel"])
def test_what_quantize_dynamic_writes_becomes_a_network_that_builds(
    network: Callable[[], onnx.ModelProto], form: str, tmp_path: Path
) -> None:
    """Embeddings, matrix products and LSTMs keep their quantized weights' numbers; nothing is rounded as it runs.

    Compared with the float network: onnxruntime's INT8 kernels saturate on processors without VNNI.
    """
    quantization = pytest.importorskip("onnxruntime.quantization")
    kind, _, channels = form.partition(" ")
    source, path = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    onnx.save(network(), source)
    quantization.quantize_dynamic(
        str(source), str(path), weight_type=getattr(quantization.QuantType, kind), per_channel=bool(channels)
    )
    model = onnx.load(path)
    feeds = [{"ids": np.array([[1, 5, 2, 19, 0, 7]])}] if network is transformer else noise(model, 2)
    fixed, _ = settled(model, feeds)
    found = comparison.compare(onnx.load(source), fixed, feeds, tmp_path)
    assert min(a.sqnr for a in found.values()) > 30
    assert not operators(fixed) & {"MatMulInteger", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "QuantizeLinear"}
    assert builds(fixed, tmp_path)


W8 = RANDOM.integers(-100, 100, (4, 2)).astype(np.int8)
PRODUCTS = {
    "dynamic": "y = com.microsoft.DynamicQuantizeMatMul (x, w, sw, zw, b)",
    "dynamic, written out": """q, s, z = DynamicQuantizeLinear (x)
        y = com.microsoft.MatMulIntegerToFloat (q, w, s, sw, z, zw, b)""",
    "static": "q = QuantizeLinear (x, s0, z0)  y = com.microsoft.MatMulIntegerToFloat (q, w, s0, sw, z0, zw, b)",
}


def inputs(*shape: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.random.default_rng(i).uniform(-1, 1, shape).astype(np.float32)} for i in range(3)]


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("form", PRODUCTS)
def test_products_that_quantize_inside_read_real_numbers(form: str, per_column: bool, tmp_path: Path) -> None:
    """Weights have one scale, or one a column, with zero-points; the input keeps its pair where its scale is constant."""
    model = parsed(
        f"g (float[3,4] x) => (float[3,2] y) {{ {PRODUCTS[form]} }}",
        w=W8,
        sw=np.array([0.01, 0.02], np.float32) if per_column else np.array(0.01, np.float32),
        zw=np.array([3, -4], np.int8) if per_column else np.array(3, np.int8),
        b=weights(2),
        s0=np.array(0.01, np.float32),
        z0=np.array(128, np.uint8),
    )
    fixed, sqnr = settled(model, inputs(3, 4))
    assert sqnr > 25 and ("QuantizeLinear" in operators(fixed)) == (form == "static")
    assert builds(fixed, tmp_path)


@pytest.mark.parametrize("opset", [13, 18])
def test_a_mean_of_integers_is_a_mean_of_the_numbers_they_stand_for(opset: int, tmp_path: Path) -> None:
    """Its axes are an attribute of ReduceMean before operator set 18, and an input since."""
    model = parsed(
        """g (float[1,4,6,6] x) => (float[1,4] y) { q = QuantizeLinear (x, s, z)
            m = com.microsoft.QLinearReduceMean <axes = [2, 3], keepdims = 0> (q, s, z, t, z)  y = DequantizeLinear (m, t, z) }""",
        opset,
        s=np.array(0.01, np.float32),
        t=np.array(0.005, np.float32),
        z=np.array(0, np.int8),
    )
    result = qdqgraph.fix(model)
    onnx.checker.check_model(result.model, full_check=True)
    x = inputs(1, 4, 6, 6)
    means = [np.clip(np.rint(f["x"] / np.float32(0.01)), -128, 127).mean(axis=(2, 3)) * 0.01 for f in x]
    found = [r[0] for r in runtime.run(result.model, x, Path())]
    assert all(np.abs(a - b).max() <= 0.0026 for a, b in zip(means, found, strict=True))
    assert builds(result.model, tmp_path)


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
def test_a_file_that_onnxruntime_optimized_has_its_channels_first_again(kind: str, tmp_path: Path) -> None:
    """At the highest level QLinearConv, pools and means run with channels last, between Transposes."""
    quantization, runtime = pytest.importorskip("onnxruntime.quantization"), pytest.importorskip("onnxruntime")
    model = parsed(
        """g (float[1,3,16,16] x) => (float[1,4] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)  r = Relu (c)  m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            a = AveragePool <kernel_shape = [2, 2]> (m)  d = Conv <group = 2> (a, w2)  g = GlobalAveragePool (d)
            f = Flatten (g)  y = Gemm (f, w3) }""",
        w1=weights(8, 3, 3, 3),
        b1=weights(8),
        w2=weights(8, 4, 1, 1),
        w3=weights(8, 4),
    )
    source, path, saved = (tmp_path / f"{name}.onnx" for name in ("float", "quantized", "saved"))
    onnx.save(model, source)
    feeds = inputs(1, 3, 16, 16)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    both = getattr(quantization.QuantType, kind)
    operator_form = quantization.QuantFormat.QOperator
    quantization.quantize_static(
        str(source), str(path), Reader(), quant_format=operator_form, activation_type=both, weight_type=both
    )
    options = runtime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(saved), 4
    runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(saved)
    assert "NhwcMaxPool" in operators(optimized)
    fixed, sqnr = settled(optimized, feeds)
    assert sqnr > 30 and not any(node.domain for node in fixed.graph.node)
    assert builds(fixed, tmp_path)


REFUSED = {
    "QAttention": (
        "y = com.microsoft.QAttention <num_heads = 1> (x, w, b, s, s)",
        "quantize the model before its attention is fused; TensorRT has no onnxruntime Attention",
    ),
    "MatMulBnb4": (
        "y = com.microsoft.MatMulBnb4 <K = 4, N = 2, quant_type = 1, block_size = 16> (x, w, s)",
        "store its weights as blocked INT4 with a DequantizeLinear",
    ),
    "QMoE": (
        "y = com.microsoft.QMoE (x, x, w, s)",
        "export the experts as matrix products; TensorRT has no onnxruntime MoE",
    ),
    "ReorderInput": (
        "y = com.microsoft.nchwc.ReorderInput (d)",
        "save the model without onnxruntime's layout optimization",
    ),
    "MatMulIntegerToFloat": (
        "t = Abs (s)  r = Add (t, a)  y = com.microsoft.MatMulIntegerToFloat (w, w, r, s)",
        "export the model with constant weights and scales",
    ),
}


@pytest.mark.parametrize("op", REFUSED)
def test_what_tensorrt_has_no_counterpart_for_is_refused_with_its_reason(op: str) -> None:
    body, reason = REFUSED[op]
    model = parsed(
        f"g (float[1,3,4] x, float a) => (float[1,3,2] y) {{ q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) {body} }}",
        w=W8,
        b=weights(2),
        s=np.array(0.1, np.float32),
        z=np.array(0, np.int8),
    )
    with pytest.raises(RepairError) as error:
        qdqgraph.fix(model)
    assert "y: QDQ4" in str(error.value) and f"TensorRT has no {op} " in str(error.value) and reason in str(error.value)


def test_a_network_whose_last_pair_went_is_known_as_repaired() -> None:
    """16-bit pairs go, here the only one: check and fix take the result, and still refuse a network never quantized."""
    model = parsed(
        "g (float[1,4] x) => (float[1,4] y) { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Sigmoid (d) }",
        21,
        s=np.array(0.001, np.float32),
        z=np.array(0, np.int16),
    )
    fixed, sqnr = settled(model, inputs(1, 4))
    assert operators(fixed) == {"Sigmoid"} and sqnr > 50
    assert not qdqgraph.check(fixed)
    assert operators(qdqgraph.to_fp16(fixed).model) == {"Sigmoid"}
    with pytest.raises(ModelError, match="quantize it first"):
        qdqgraph.fix(parsed("g (float[1,4] x) => (float[1,4] y) { y = Sigmoid (x) }"))

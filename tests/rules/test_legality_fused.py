"""Operators that onnxruntime's graph optimizer fused: written as what they were fused from, or named and refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import qdqgraph
from qdqgraph import RepairError
from qdqgraph.calibration.noise import noise
from qdqgraph.verify import comparison
from tests.support.engines import builds

RANDOM = np.random.default_rng(2)
IMAGE, ROWS = "float[1,4,6,6]", "float[2,3,8]"
CONSTANTS: dict[str, np.ndarray] = {
    "s": np.array(0.02, np.float32),
    "z": np.array(0, np.int8),
    "w": RANDOM.normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32),
    "b": RANDOM.normal(0, 0.3, 4).astype(np.float32),
    "m": RANDOM.normal(0, 0.3, (8, 8)).astype(np.float32),
    "v": RANDOM.normal(0, 0.3, 8).astype(np.float32),
    "g": RANDOM.uniform(0.5, 2, 8).astype(np.float32),
}


def model(body: str, shape: str, made: str, opset: int = 17) -> onnx.ModelProto:
    """A pair in front of fused operators, which read d."""
    text = f"g ({shape} x) => ({made} y) {{ q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) {body} }}"
    found = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> {text}')
    used = {name for node in found.graph.node for name in node.input}
    found.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in CONSTANTS.items() if n in used)
    return found


CONV = "kernel_shape = [3, 3], pads = [1, 1, 1, 1]"
FUSED = {
    "FusedConv with a sum and a Relu": (
        f'y = com.microsoft.FusedConv <{CONV}, activation = "Relu"> (d, w, b, d)',
        IMAGE,
        IMAGE,
    ),
    "FusedConv with HardSigmoid": (
        f'y = com.microsoft.FusedConv <{CONV}, activation = "HardSigmoid", activation_params = [0.166, 0.5]> (d, w, b)',
        IMAGE,
        IMAGE,
    ),
    "FusedConv with Clip": (
        f'y = com.microsoft.FusedConv <{CONV}, activation = "Clip", activation_params = [-0.5, 0.75]> (d, w)',
        IMAGE,
        IMAGE,
    ),
    "FusedConv with LeakyRelu": (
        f'y = com.microsoft.FusedConv <{CONV}, activation = "LeakyRelu", activation_params = [0.2]> (d, w)',
        IMAGE,
        IMAGE,
    ),
    "FusedMatMul": ("y = com.microsoft.FusedMatMul <alpha = 0.25, transB = 1> (d, d)", ROWS, "float[2,3,3]"),
    "Gelu": ("y = com.microsoft.Gelu (d)", ROWS, ROWS),
    "BiasGelu": ("y = com.microsoft.BiasGelu (d, v)", ROWS, ROWS),
    "FastGelu": ("y = com.microsoft.FastGelu (d, v)", ROWS, ROWS),
    "QuickGelu": ("y = com.microsoft.QuickGelu (d)", ROWS, ROWS),
    "SkipLayerNormalization": (
        "r, , , t = com.microsoft.SkipLayerNormalization <epsilon = 1e-5> (d, d, g, v, v) y = Add (r, t)",
        ROWS,
        ROWS,
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_a_fused_operator_is_written_in_onnxs_own(name: str, tmp_path: Path) -> None:
    before = model(*FUSED[name])
    result = qdqgraph.fix(before)
    onnx.checker.check_model(result.model, full_check=True)
    assert "QDQ417" in {f.code for f in result.applied} and not any(n.domain for n in result.model.graph.node)
    assert result.plan.inverse().apply(result.model).SerializeToString() == before.SerializeToString()
    assert not qdqgraph.fix(result.model).plan.edits
    assert comparison.compare(before, result.model, noise(before, 2), Path())["y"].sqnr > 90
    assert builds(result.model, tmp_path)


def test_a_gemm_with_its_activation_keeps_its_attributes() -> None:
    body = 'f = Flatten (d) y = com.microsoft.FusedGemm <activation = "LeakyRelu", activation_alpha = 0.1, transB = 1> (f, m, v)'
    before = model(body, "float[2,8]", "float[2,8]")
    result = qdqgraph.fix(before)
    onnx.checker.check_model(result.model, full_check=True)
    (gemm,) = (n for n in result.model.graph.node if n.op_type == "Gemm")
    assert {a.name for a in gemm.attribute} == {"transB"}
    assert comparison.compare(before, result.model, noise(before, 2), Path())["y"].sqnr > 90


@pytest.mark.parametrize(
    "body, opset",
    [
        ("y = com.microsoft.BiasSoftmax <axis = 2, is_inner_broadcast = 0> (d, d)", 17),
        ("y = com.microsoft.FusedMatMul <transBatchA = 1> (d, d)", 17),
        ("y, mean = com.microsoft.SkipLayerNormalization (d, d, g)", 17),
    ],
)
def test_what_has_no_form_of_its_own_is_named(body: str, opset: int) -> None:
    op = body.split("com.microsoft.")[1].split(" ")[0]
    with pytest.raises(RepairError, match=f"y: QDQ417 TensorRT has no {op} of domain com.microsoft"):
        qdqgraph.fix(model(body, ROWS, ROWS, opset))

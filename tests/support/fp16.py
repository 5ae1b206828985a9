"""FP16 models: the conversion, checked for what always is true of it, and what its result contains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from qdqgraph.calibration.agreement import agreement
from qdqgraph.calibration.noise import noise
from qdqgraph.fp16 import Fp16Model, to_fp16
from qdqgraph.model import runtime
from tests.support.models import build

X = "float[1,4,8,8] x"


Y = "float[1,4,8,8] y"


REAL = (TensorProto.FLOAT, TensorProto.FLOAT16)


OPS = "<ir_version: 8, opset_import: {}>"


WORST_SCALE_CHANGE = 2.0**-10


def half(model: onnx.ModelProto, **options: object) -> Fp16Model:
    """The conversion, checked for what always holds."""
    before = model.SerializeToString()
    made = to_fp16(model, **options)  # type: ignore[arg-type]
    assert model.SerializeToString() == before, "halve changed its input"
    onnx.checker.check_model(made.model, full_check=True)
    onnx.shape_inference.infer_shapes(made.model, check_type=True, strict_mode=True, data_prop=True)
    again = to_fp16(made.model, **options)  # type: ignore[arg-type]
    assert again.model.SerializeToString() == made.model.SerializeToString(), "a second run still changes something"
    assert made.casts == casts(made.model)
    assert made.scale_change <= WORST_SCALE_CHANGE
    return made


def casts(model: onnx.ModelProto) -> int:
    """Casts between FP32 and FP16."""
    known = onnx.shape_inference.infer_shapes(model).graph
    kinds = {i.name: i.type.tensor_type.elem_type for i in (*known.input, *known.value_info, *known.output)}
    found = [n for n in model.graph.node if n.op_type == "Cast"]
    return sum(kinds.get(n.input[0]) in REAL and kinds.get(n.output[0]) in REAL for n in found)


def ops(model: onnx.ModelProto) -> str:
    return " ".join(n.op_type for n in model.graph.node)


def io(model: onnx.ModelProto) -> list[int]:
    return [i.type.tensor_type.elem_type for i in (*model.graph.input, *model.graph.output)]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def reasons(made: Fp16Model) -> dict[str, str]:
    return {k.node: k.reason for k in reversed(made.kept)}


def outputs(model: onnx.ModelProto, feeds: list[runtime.Feed]) -> list[np.ndarray]:
    return [np.asarray(o) for sample in runtime.run(model, feeds, Path()) for o in sample]


def sqnr(before: onnx.ModelProto, after: onnx.ModelProto, feeds: list[runtime.Feed] | None = None) -> float:
    feeds = feeds or noise(before, 2)
    return agreement(outputs(before, feeds), outputs(after, feeds)).sqnr


RESIDUAL = build(
    f"g ({X}) => ({Y}) {{ a = t.conv4 (x, s1) r = Relu (a) b = t.conv4 (r, s2) c = Add (b, r) y = t.conv4 (c, s3) }}"
)


def weighted(scales: list[float], integers: np.ndarray) -> onnx.ModelProto:
    """A convolution of four channels with given weight scales, for each output channel one."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["k"], axis=0),
        helper.make_node("Conv", ["d", "k"], ["y"]),
    ]
    constants_ = {
        "s": np.float32(0.02),
        "z": np.int8(0),
        "w": integers.astype(np.int8),
        "sw": np.array(scales, np.float32),
        "zw": np.zeros(len(scales), np.int8),
    }
    shape = [1, 4, 8, 8]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, shape)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants_.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


INTEGERS = np.random.default_rng(0).integers(-127, 128, (4, 4, 1, 1))

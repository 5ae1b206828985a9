"""The forecast per generation of TensorRT: what the target's data change, as networks of a few nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given

from benchmarks.rtx_agreement import agreement
from qdqgraph.engines.builders.builder import built
from qdqgraph.engines.builders.how import Build
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.layers import Engine, Layer
from qdqgraph.engines.share import Int8Share
from qdqgraph.graph.graph import Graph
from qdqgraph.targets.target import NAMES, Target
from tests.support.engines import written
from tests.support.graphs import nets
from tests.support.models import build as model_of
from tests.support.models import fixed

OLD, NEW = "trt-8.6", [name for name in NAMES if name != "trt-8.6"]


def engine(text: str, target: str = "trt-10", opset: int = 17, *, together: bool = False) -> Engine:
    return forecast(Graph(model_of(text, opset), target=Target.named(target)), "m", together=together)


def kernels(text: str, target: str = "trt-10", opset: int = 17) -> list[str]:
    """One word per node of each kernel, and what it reads and writes; a reformat is its cause."""
    return [said(layer) for layer in engine(text, target, opset).layers]


def said(layer: Layer) -> str:
    nodes = " ".join(n.split("(")[0] for n in layer.nodes if "(" in n) or layer.cause
    read, made = ("+".join(t.precision for t in side) for side in (layer.inputs, layer.outputs))
    return f"{nodes}: {read} -> {made}"


def rules(layer: Layer) -> list[str]:
    return [reason.rule for reason in layer.why]


SQUARE = "g (float[1,4,16,16] x) => (float[1,4,16,16] y) {{ {} }}"
LARGER = "g (float[1,4,16,16] x) => (float[1,4,{0},{0}] y) <{1}> {{ {2} }}"


# Generated kernels


def test_q_and_dq_run_in_the_kernels_beside_them() -> None:
    """In 8.6 a pair that no kernel absorbs is two kernels of its own."""
    text = SQUARE.format("a = t.conv4 (x, s1) r = Sin (a) p = t.pair (r, s2) y = Sin (p)")
    assert kernels(text, OLD)[1:] == [
        "Conv: INT8 -> FP16",
        "Sin: FP16 -> FP16",
        "Q/DQ: FP16 -> INT8",
        "Q/DQ: INT8 -> FP16",
        "Sin: FP16 -> FP32",
    ]
    for target in NEW:
        kind = "FP16" if target == "trt-10" else "FP32"
        assert kernels(text, target)[1:] == [f"Conv: INT8 -> {kind}", f"Sin Sin: {kind} -> FP32"]
        last = engine(text, target).layers[-1]
        assert rules(last) == ["F6", "F7"] and last.quantizers


def test_q_and_dq_alone_are_one_kernel_that_stores_no_int8() -> None:
    (only,) = engine("g (float[1,4] x) => (float[1,4] y) { y = t.pair (x, s1) }").layers
    assert (said(only), rules(only), only.cause) == ("Q/DQ: FP32 -> FP32", ["F7"], "Q/DQ")
    assert len(engine("g (float[1,4] x) => (float[1,4] y) { y = t.pair (x, s1) }", OLD).layers) == 2


@pytest.mark.parametrize(
    "nodes",
    [
        "b = Softmax <axis = 1> (a)",
        "b = ReduceMax (a)",
        "b = GlobalAveragePool (a)",
        "b = Transpose <perm = [0, 2, 1, 3]> (a)",
        "b, c = Split <axis = 1, num_outputs = 2> (a)",
        "b = Concat <axis = 1> (a, x)",
        "b = Floor (a)",
        "b = Greater (a, k) c = Where (b, a, k)",
    ],
)
def test_reductions_and_data_movement_are_part_of_one_kernel(nodes: str) -> None:
    last = nodes.split(" = ")[-2].split()[-1].split(",")[0] if "Where" in nodes else "b"
    text = f"g (float[1,4,16,16] x) => (float y) <float k = {{0}}> {{ a = Sin (x) {nodes} y = Cos ({last}) }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    found = forecast(Graph(model, target=Target.named("trt-11")), "m").layers
    assert len(found) == 1, [said(layer) for layer in found]


@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
def test_a_pool_with_a_window_is_a_library_kernel(pool: str) -> None:
    text = SQUARE.format(f"a = Sin (x) b = {pool} <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a) y = Cos (b)")
    assert [k.split(":")[0] for k in kernels(text, "trt-11")] == ["Sin", pool, "Cos"]


def test_a_library_kernel_on_a_path_between_two_nodes_keeps_them_apart() -> None:
    text = SQUARE.format("a = Relu (x) b = t.conv4 (a, s1) c = Sin (a) y = Add (b, c)")
    nodes = [k.split(":")[0] for k in kernels(text, "trt-rtx")]
    assert nodes == ["Relu Sin", "Conv Add"], "the Add is part of the convolution's kernel, which reads both"
    text = SQUARE.format("a = Relu (x) b = t.conv4 (a, s1) r = Relu (b) c = Sin (a) e = Mul (r, c) y = Cos (e)")
    assert [k.split(":")[0] for k in kernels(text, "trt-rtx")] == ["Relu", "Conv Relu", "Sin Mul Cos"]


def test_a_kernel_writes_each_type_that_is_read() -> None:
    """Measured on TensorRT-RTX 1.7.1: one kernel, INT8 and FP32 out."""
    text = SQUARE.format("a = Sin (x) b = t.conv4 (a, s1) y = Add (b, a)")
    first, *_ = engine(text, "trt-rtx").layers
    assert said(first) == "Sin: FP32 -> INT8+FP32"
    text = SQUARE.format("a = Sin (x) b = t.conv4 (a, s1) c = t.conv4 (a, s2) y = Add (b, c)")
    assert said(engine(text, "trt-rtx").layers[0]) == "Sin: FP32 -> INT8+INT8"


ONES = ", ".join(["1"] * 16 * 32)
MLP = f"""g (float[8,16] x) => (float[8,16] y)
<int8[16,16] w = {{{", ".join(["1"] * 256)}}}, int8 z = {{0}}, float[16] bias = {{{", ".join(["1"] * 16)}}}, int64[1] one = {{1}}> {{
    p = t.pair (x, s1)  k = DequantizeLinear (w, s2, z)  a = Gemm <transB = 1> (p, k, bias)
    q = t.pair (a, s3)
    m = ReduceMax <axes = [1]> (q)  s = Sub (q, m)  e = Exp (s)  f = Floor (e)  u = ReduceSum (f, one)  d = Div (f, u)
    l = DequantizeLinear (w, s2, z)  b = Gemm <transB = 1> (d, l, bias)
    y = t.pair (b, s4)
}}"""
"""The structure of a public TensorRT 10 engine: https://github.com/Eternal-Raiden-Ying/i-vit-srtp, layer_info.json."""


def test_an_mlp_has_the_kernels_of_its_public_engine_of_tensorrt_10() -> None:
    """Q; Gemm, INT8 in and out; DQ and an integer softmax of many nodes; a float Gemm; Q and DQ at the output."""
    assert kernels(MLP, "trt-11") == [
        "Q/DQ: FP32 -> INT8",
        "Gemm: INT8 -> INT8",
        "ReduceMax Sub Exp Floor ReduceSum Div: INT8 -> FP32",
        "Gemm: FP32 -> FP32",
        "Q/DQ: FP32 -> FP32",
    ]
    assert len(engine(MLP, OLD).layers) > 8


BLOCKS = """g (float[1,4,16,16] x) => (float[1,4,16,16] y) <{0}, int8[4,4,1,1] w = {{{1}}}, int8 zw = {{0}}> {{
    k = DequantizeLinear (w, s1, zw)
    q = QuantizeLinear (x, s1, z)  d = DequantizeLinear (q, s1, z)
    a = Conv (d, k)  r = Relu (a)
    q2 = QuantizeLinear (r, s2, z)  d2 = DequantizeLinear (q2, s2, z)
    b = Sin (d2)
    q3 = QuantizeLinear (b, s3, z)  d3 = DequantizeLinear (q3, s3, z)
    y = Conv (d3, k)
}}"""
"""Two convolutions with an element-wise operator between them."""


@pytest.mark.parametrize("target", NAMES)
def test_a_zero_point_changes_the_legality_not_the_kernels_and_their_order(target: str) -> None:
    """TensorRT refuses the file; the forecast of it, which `engine diff` and `draw` show, is what it would build otherwise."""
    ones = ", ".join(["1"] * 16)
    plain = engine(BLOCKS.format("int8 z = {0}", ones), target)
    for zero in ("int8 z = {3}", "uint8 z = {128}"):
        found = engine(BLOCKS.format(zero, ones), target)
        assert [said(layer) for layer in found.layers] == [said(layer) for layer in plain.layers]
        assert found.edges == plain.edges and len(found.edges) == len(found.layers) - 1


def test_kernels_are_joined_across_pairs_with_scales_per_channel_or_that_differ() -> None:
    """Such a pair is no site of its own: its Q reads the tensor that the kernel before it writes."""
    for quantized in (
        "q = QuantizeLinear <axis = 1> (a, many, zeros) d = DequantizeLinear <axis = 1> (q, many, zeros)",
        "q = QuantizeLinear (a, s2, z) d = DequantizeLinear (q, s3, z)",
        "t = Mul (s2, n) q = QuantizeLinear (a, t, z) d = DequantizeLinear (q, t, z)",
    ):
        extra = "int8 z = {0}, float[4] many = {0.1, 0.2, 0.1, 0.2}, int8[4] zeros = {0, 0, 0, 0}"
        text = f"""g (float[1,4,16,16] x, float n) => (float[1,4,16,16] y) <{extra}> {{
            a = t.conv4 (x, s1) {quantized} b = MaxPool <kernel_shape = [1, 1]> (d) y = t.conv4 (b, s4) }}"""
        found = engine(text, OLD)
        kept = [layer for layer in found.layers if layer.kind != "PointWise"]
        assert {t.name for layer in kept for t in layer.inputs} <= {"x"} | {
            t.name for x in found.layers for t in x.outputs
        }


@given(nets)
def test_every_node_is_in_one_kernel_and_each_tensor_is_made_before_it_is_read(model: onnx.ModelProto) -> None:
    for target in (OLD, "trt-rtx"):
        graph = Graph(model, target=Target.named(target))
        layers = forecast(graph, "m").layers
        made, nodes = set(graph.inputs), [n for layer in layers for n in layer.nodes]
        assert len(nodes) == len(set(nodes))
        for layer in layers:
            assert {t.name for t in layer.inputs} <= made, layer.name
            made |= {t.name for t in layer.outputs}
        assert graph.outputs <= made | {t.name for x in layers for t in x.inputs} | graph.inputs


# Around a convolution

PADS = "int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}"


@pytest.mark.parametrize("target", NAMES)
def test_a_pad_fuses_with_the_convolution_downstream(target: str) -> None:
    """NVIDIA/TensorRT#2527: `Pad_6 + weight + QuantizeLinear_9 + Conv_13 + PWN(Clip_14)`, INT8 in and out."""
    body = f"""r = t.conv4 (x, s1) p = t.pair (r, s2) a = Pad (p, pads)
        w = Constant <value = int8[4,4,1,1] {{{", ".join(["1"] * 16)}}}> () k = DequantizeLinear (w, s1) y = Conv (a, k)"""
    last = engine(LARGER.format(18, PADS, body), target).layers[-1]
    assert said(last) == "Pad Conv: INT8 -> FP32" and "F8" in rules(last)


def test_a_pair_between_pad_and_convolution_keeps_them_apart_before_tensorrt_10() -> None:
    """NVIDIA/TensorRT#2592; measured on TensorRT-RTX 1.7.1: they fuse, and the Q runs before the Pad."""
    text = LARGER.format(18, PADS, "r = t.conv4 (x, s1) a = Pad (r, pads) y = t.conv4 (a, s2)")
    assert kernels(text, OLD)[1:] == ["Conv: INT8 -> INT8", "Pad: INT8 -> INT8", "Conv: INT8 -> FP32"]
    for target in NEW:
        assert kernels(text, target)[1:] == ["Conv: INT8 -> INT8", "Pad Conv: INT8 -> FP32"]


@pytest.mark.parametrize(
    "pad",
    ["Pad (r, pads, k)", 'Pad <mode = "reflect"> (r, pads)', "Pad (r, channels)"],
    ids=["ones", "copies", "channels"],
)
def test_a_pad_of_other_values_or_channels_does_not_fuse(pad: str) -> None:
    extra = f"{PADS}, int64[8] channels = {{0, 2, 1, 1, 0, 2, 1, 1}}, float k = {{1}}"
    conv = "t.conv8" if "channels" in pad else "t.conv4"
    text = LARGER.format(18, extra, f"r = t.conv4 (x, s1) a = {pad} y = {conv} (a, s2)")
    assert not any("Pad Conv" in k for target in NAMES for k in kernels(text, target))


def test_a_q_does_not_move_over_a_tile_before_tensorrt_10() -> None:
    """NVIDIA/TensorRT#2627: Tile, FP32 in and out, and a reformat for the clone of the Q after it."""
    text = LARGER.format(32, "int64[4] n = {1, 1, 2, 2}", "r = t.conv4 (x, s1) a = Tile (r, n) y = t.conv4 (a, s2)")
    assert kernels(text, OLD)[1:4] == ["Conv: INT8 -> FP16", "Tile: FP16 -> FP16", "Q/DQ: FP16 -> INT8"]
    assert "F9" in rules(engine(text, OLD).layers[2])
    assert kernels(text, "trt-10")[1:3] == ["Conv: INT8 -> INT8", "Tile: INT8 -> INT8"]


UP = f"int8[4,4,2,2] w = {{{', '.join(['3'] * 64)}}}, int8 z = {{0}}"
DECONV = "p = t.pair (x, s1) k = DequantizeLinear (w, s1, z) b = ConvTranspose <strides = [2, 2]> (p, k)"


def test_a_transposed_convolution_absorbs_its_own_q_only() -> None:
    """NVIDIA/TensorRT#2597: the clone of a Q after a Concat is absorbed by convolutions, not by ConvTranspose."""
    own = LARGER.format(32, UP, f"{DECONV} y = t.conv4 (b, s2)")
    assert kernels(own, OLD)[1] == "ConvTranspose: INT8 -> INT8"
    cloned = LARGER.format(32, UP, f"{DECONV} c = Concat <axis = 1> (b, b) y = t.conv8 (c, s2)")
    assert kernels(cloned, OLD)[1:3] == ["ConvTranspose: INT8 -> FP16", "Q/DQ: FP16 -> INT8"]
    assert "F10" in rules(engine(cloned, OLD).layers[1])
    assert kernels(cloned, "trt-10")[1:3] == ["ConvTranspose: INT8 -> FP16", "Concat: FP16+FP16 -> INT8"]
    assert kernels(own, "trt-rtx")[1] == "ConvTranspose: FP32 -> FP32", "measured on TensorRT-RTX 1.7.1"


@pytest.mark.parametrize(
    ("window", "size", "int8"),
    [
        ("kernel_shape = [3, 3], pads = [1, 1, 1, 1]", 16, True),
        ("kernel_shape = [5, 5], pads = [2, 2, 2, 2]", 16, False),
        ("kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]", 8, False),
        ("kernel_shape = [2, 2], strides = [2, 2]", 8, False),
    ],
)
def test_tensorrt_rtx_averages_in_int8_with_one_window_only(window: str, size: int, int8: bool) -> None:
    """Measured on TensorRT-RTX 1.7.1; in engines of TensorRT 8 the global average of ResNet-18 runs in INT8."""
    nodes = f"a = t.conv4 (x, s1) q = t.pair (a, s2) p = AveragePool <{window}> (q) y = t.conv4 (p, s3)"
    text = f"g (float[1,4,16,16] x) => (float[1,4,{size},{size}] y) {{ {nodes} }}"
    for target in NAMES:
        (pool,) = (k for k in kernels(text, target) if k.startswith("AveragePool"))
        assert (pool == "AveragePool: INT8 -> INT8") == (int8 or target != "trt-rtx")


def test_a_q_of_a_convolution_is_not_part_of_a_kernel_that_reads_its_integers_twice() -> None:
    text = SQUARE.format("a = t.conv4 (x, s1) p = t.pair (a, s2) b = Sin (p) c = Mul (b, p) y = Cos (c)")
    for target in NEW:
        _, conv, last = engine(text, target).layers
        assert (said(conv), said(last)) == ("Conv: INT8 -> INT8", "Sin Mul Cos: INT8 -> FP32")
        assert conv.quantizers and not last.quantizers and "F7" not in rules(last)


def test_a_q_after_data_movement_runs_in_the_kernel_before_it() -> None:
    text = SQUARE.format("r = Sin (x) p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r) y = t.conv4 (p, s1)")
    for target in NEW:
        first, pool, *_ = engine(text, target).layers
        assert (said(first), said(pool)) == ("Sin: FP32 -> INT8", "MaxPool: INT8 -> INT8")
        assert first.quantizers and not pool.quantizers


FP8 = f"""g (float[1,4,16,16] x) => (float[1,4,16,16] y)
<float8e4m3fn z = {{0}}, float8e4m3fn[4,4,1,1] w = {{{", ".join(["1"] * 16)}}}> {{
    q = QuantizeLinear (x, s1, z)  d = DequantizeLinear (q, s1, z)  k = DequantizeLinear (w, s1, z)
    a = Conv (d, k)  r = Relu (a)
    p = QuantizeLinear (r, s2, z)  e = DequantizeLinear (p, s2, z)  y = Conv (e, k)
}}"""


def test_fp8_is_called_fp8() -> None:
    found = engine(FP8, "trt-11", 19)
    assert [said(layer) for layer in found.layers] == [
        "Q/DQ: FP32 -> FP8",
        "Conv Relu: FP8 -> FP8",
        "Conv: FP8 -> FP32",
    ]
    assert [layer.precision for layer in found.layers] == ["FP8"] * 3
    assert Int8Share.of(found).counts.startswith("2 of 2 weighted layers in FP8, 2 FP8 tensors, ")


GELU = "g = Pow (a, k) h = Mul (g, k) i = Add (a, h) j = Tanh (i) l = Add (j, k) r = Mul (a, l)"


@pytest.mark.parametrize("target", NAMES)
def test_a_gelu_by_tanh_after_an_int8_layer_is_a_kernel_of_its_own(target: str) -> None:
    """After a floating-point layer it fuses: `__myl_FcMulMulMulAddMulTanhAddMulMul`, an FP16 engine of TensorRT 10.11."""
    signature = "g (float[1,4,16,16] x) => (float[1,4,16,16] y) <float k = {3}"
    text = f"{signature}> {{ a = t.conv4 (x, s1) {GELU} y = t.conv4 (r, s2) }}"
    nodes = [k.split(":")[0] for k in kernels(text, target)]
    assert nodes[1:3] == ["Conv", "Pow Mul Add Tanh Add Mul"]
    weights = f", float[4,4,1,1] w = {{{', '.join(['1'] * 16)}}}"
    text = f"{signature}{weights}> {{ a = Conv (x, w) {GELU} y = Conv (r, w) }}"
    assert "Conv Pow Mul Add Tanh Add Mul" in [k.split(":")[0] for k in kernels(text, target)]


# What TensorRT decides by timing


def undecided(text: str, target: str) -> tuple[Layer, list[list[str]]]:
    """The kernel that TensorRT may form otherwise, and the operators of the kernels that it may form instead."""
    found = engine(text, target)
    (layer,) = (x for x in found.layers if x.alternative)
    assert any("TensorRT decides by timing" in note for note in found.notes)
    assert "TensorRT decides by timing" in next(r.text for r in layer.why if r.rule == "T1")
    return layer, [[n.split("(")[0] for n in nodes if "(" in n] for nodes in layer.alternative]


@pytest.mark.parametrize("target", NAMES)
def test_either_of_two_unquantized_convolutions_takes_an_add(target: str) -> None:
    text = SQUARE.format("a = t.conv4 (x, s1) b = t.conv4 (x, s2) c = Add (a, b) r = Relu (c) y = t.conv4 (r, s3)")
    layer, instead = undecided(text, target)
    assert said(layer).startswith("Conv Add Relu") and instead == [["Conv", "Add", "Relu"], ["Conv"]]
    assert layer.alternative[0][0] != next(n for n in layer.nodes if n.startswith("Conv"))


@pytest.mark.parametrize("target", NAMES)
def test_an_add_after_silu_fuses_or_not(target: str) -> None:
    """NVIDIA/TensorRT#2204, #3542, #3861: two kernels in 8.5 and 10.6; Model Optimizer places pairs for one."""
    body = """a = t.conv4 (x, s1) r = Relu (a) b = t.conv4 (r, s2) g = Sigmoid (b) m = Mul (g, b) k = t.pair (r, s2)
        c = Add (m, k) y = t.conv4 (c, s3)"""
    text = SQUARE.format(body).replace("g =", "h =").replace("(g, b)", "(h, b)")
    layer, instead = undecided(text, target)
    assert said(layer).startswith("Conv: INT8 -> ") and instead == [["Conv", "Sigmoid", "Mul", "Add"]]
    assert any(k.startswith("Sigmoid Mul Add") for k in kernels(text, target))
    fused = engine(text, target, together=True)
    assert fused.bytes < engine(text, target).bytes, "the forecast counts the worse"
    assert any(said(x) == "Conv Sigmoid Mul Add: INT8+INT8 -> INT8" for x in fused.layers)


def floats(nodes: str) -> str:
    """A network with floating-point weights `w` of a 1x1 convolution, and a constant `k`."""
    weights = f"float[4,4,1,1] w = {{{', '.join(['1'] * 16)}}}, float k = {{3}}"
    return f"g (float[1,4,16,16] x) => (float[1,4,16,16] y) <{weights}> {{ {nodes} }}"


@pytest.mark.parametrize("target", NAMES)
def test_fix_shows_the_bytes_by_which_it_decides(target: str) -> None:
    """A repair that removes the pair between SiLU and a residual Add only enables a fusion, which takes bytes away."""
    body = """a = t.conv4 (x, s1) r = Relu (a) b = t.conv4 (r, s2) h = Sigmoid (b) m = Mul (b, h) p = t.pair (m, s3)
        k = t.pair (r, s2) c = Add (p, k) y = t.conv4 (c, s3)"""
    result = fixed(model_of(SQUARE.format(body)), target=target)
    assert [f.code for f in result.applied if f.code == "QDQ202"] and result.int8 is not None
    before, after = result.int8
    assert after.bytes < before.bytes
    assert "with 1 fusion that TensorRT decides by timing" in " ".join(str(result.summary()).split())


GATES = ["g = Sigmoid (a) r = Mul (a, g)", "r = HardSwish (a)", "g = Relu (a) r = Mul (g, g)"]


@pytest.mark.parametrize("gate", GATES, ids=["SiLU", "HardSwish", "squared ReLU"])
def test_silu_fuses_with_an_int8_convolution_by_timing_from_tensorrt_10_on(gate: str) -> None:
    """NVIDIA/TensorRT#3861: all but one of a YOLOv8 in 10.6; none of a YOLOv8n without Q/DQ in 10.16."""
    text = SQUARE.format(f"a = t.conv4 (x, s1) {gate} y = t.conv4 (r, s2)")
    operators = [word.split(" ")[0] for word in gate.split(" = ")[1:]]
    assert kernels(text, OLD)[1] == f"Conv {' '.join(operators)}: INT8 -> INT8"
    for target in NEW:
        layer, instead = undecided(text, target)
        kind = "FP16" if target == "trt-10" else "FP32"
        assert kernels(text, target)[1:3] == [f"Conv: INT8 -> {kind}", f"{' '.join(operators)}: {kind} -> INT8"]
        assert instead == [["Conv", *operators]] and layer.kind == "Convolution"
        both = engine(text, target, together=True)
        assert said(both.layers[1]) == f"Conv {' '.join(operators)}: INT8 -> INT8"
        apart = [[n.split("(")[0] for n in nodes if "(" in n] for nodes in both.layers[1].alternative]
        assert apart == [["Conv"], operators] and "counts fused" in both.notes[-1]


@pytest.mark.parametrize("target", NAMES)
def test_silu_fuses_with_a_floating_point_convolution(target: str) -> None:
    weights = f"float[4,4,1,1] w = {{{', '.join(['1'] * 16)}}}"
    text = (
        f"g (float[1,4,16,16] x) => (float[1,4,16,16] y) <{weights}> {{ a = Conv (x, w) {GATES[0]} y = Conv (r, w) }}"
    )
    assert "Conv Sigmoid Mul" in [k.split(":")[0] for k in kernels(text, target)]


@pytest.mark.parametrize(
    ("nodes", "forecast"),
    [
        ("r = Clip (a, k)", ["Conv Clip", "Conv"]),
        ("g = Sigmoid (a) r = Mul (a, g)", ["Conv Sigmoid Mul", "Conv"]),
        ("g = Sigmoid (a) h = Mul (a, g) r = Add (h, x)", ["Conv Sigmoid Mul Add", "Conv"]),
        ("g = Relu (a) r = Add (g, x)", ["Conv Relu Add", "Conv"]),
        (
            "g = Sigmoid (a) h = Mul (a, g) r = Transpose <perm = [0, 1, 3, 2]> (h)",
            ["Conv Sigmoid Mul", "Transpose", "Conv"],
        ),
        ("g = Sin (a) h = Mul (g, g) r = Add (a, h)", ["Conv", "Sin Mul Add", "Conv"]),
        ("g = Sigmoid (a) h = Mul (a, g) r = Sin (h)", ["Conv", "Sigmoid Mul Sin", "Conv"]),
        ("g = Add (a, x) h = Relu (g) r = Sin (h)", ["Conv Add Relu", "Sin", "Conv"]),
        ("g = Add (a, x) r = Add (g, x)", ["Conv Add", "Add", "Conv"]),
        ("g = Sin (a) h = Cos (a) r = Add (g, h)", ["Conv", "Sin Cos Add", "Conv"]),
    ],
)
def test_a_floating_point_convolution_of_tensorrt_rtx_takes_what_follows(nodes: str, forecast: list[str]) -> None:
    """Measured on TensorRT-RTX 1.7.1: benchmarks/rtx_experiments.py has the kernels of each."""
    text = floats(f"a = Conv (x, w) {nodes} y = Conv (r, w)")
    assert [k.split(":")[0] for k in kernels(text, "trt-rtx")] == forecast


def test_what_a_q_or_the_caller_reads_runs_after_a_floating_point_convolution() -> None:
    silu = "a = Conv (x, w) g = Sigmoid (a) r = Mul (a, g)"
    assert kernels(floats(f"{silu} y = t.conv4 (r, s1)"), "trt-rtx")[:2] == [
        "Conv: FP32 -> FP32",
        "Sigmoid Mul: FP32 -> INT8",
    ]
    assert len(kernels(floats(silu.replace("r =", "y =")), "trt-rtx")) == 2


@pytest.mark.parametrize("target", NAMES)
def test_a_max_pool_fuses_with_the_first_convolution_and_perhaps_with_others(target: str) -> None:
    """TensorRT 11.1, GeForce RTX 5090: `conv_act_pool` for a stem (TRT_ConvActPool_Reverse)."""
    pool = "p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r)"
    stem = SQUARE.format(f"a = t.conv4 (x, s1) r = Relu (a) {pool} y = t.conv4 (p, s2)")
    assert kernels(stem, target)[1] == "Conv Relu MaxPool: INT8 -> INT8"
    assert not any(layer.alternative for layer in engine(stem, target).layers)
    later = SQUARE.format(f"b = t.conv4 (x, s1) a = t.conv4 (b, s3) r = Relu (a) {pool} y = t.conv4 (p, s2)")
    layer, instead = undecided(later, target)
    assert said(layer) == "Conv Relu: INT8 -> INT8" and instead == [["Conv", "Relu", "MaxPool"]]


# Against TensorRT-RTX


def network(seed: int, blocks: int = 4) -> str:
    """A small network of convolution blocks with activations, skips, gates, Concats, pools and resizes, one after another."""
    draw = np.random.default_rng(seed)
    lines, x = ["a0 = t.conv4 (x, s1)", "r0 = Relu (a0)"], "r0"
    acts = ("Relu ({0})", "HardSwish ({0})", "LeakyRelu ({0})", "Clip ({0})")
    for i in range(1, blocks + 1):
        act = acts[draw.integers(len(acts))].format(f"a{i}")
        kind = draw.integers(5)
        lines += [f"a{i} = t.conv4 ({x}, s{draw.integers(1, 5)})", f"b{i} = {act}"]
        if kind == 0:
            lines += [f"k{i} = t.pair ({x}, s2)", f"q{i} = t.pair (b{i}, s3)", f"c{i} = Add (q{i}, k{i})"]
        elif kind == 1:
            lines += [f"m{i} = GlobalAveragePool (b{i})", f"n{i} = HardSigmoid (m{i})", f"c{i} = Mul (b{i}, n{i})"]
        elif kind == 2:
            lines += [f"e{i} = Softmax <axis = 1> (b{i})", f"c{i} = Mul (e{i}, b{i})"]
        elif kind == 3:
            lines += [f"m{i} = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (b{i})", f"c{i} = Sin (m{i})"]
        else:
            lines += [
                f"t{i} = Transpose <perm = [0, 1, 3, 2]> (b{i})",
                f"p{i} = t.pair (t{i}, s4)",
                f"c{i} = Tanh (p{i})",
            ]
        x = f"c{i}"
    return SQUARE.format("\n".join([*lines, f"y = t.conv4 ({x}, s5)"]))


@pytest.mark.parametrize("seed", range(3))
def test_the_kernels_of_random_networks_agree_with_those_of_tensorrt_rtx(seed: int, tmp_path: Path) -> None:
    """The share of joints (`benchmarks/rtx_agreement.py`) on which forecast and build agree."""
    pytest.importorskip("tensorrt_rtx")
    model = model_of(network(seed))
    graph = Graph(model, target=Target.named("trt-rtx"))
    real = built(written(model, tmp_path), "tensorrt-rtx", Build())
    found = agreement(graph, forecast(graph, "m"), real)
    assert found.joints >= 8 and found.share >= 0.85, (found.apart, found.together)
    old = agreement(graph, forecast(graph.aimed_at(Target.named(OLD)), "m"), real)
    assert found.share >= old.share

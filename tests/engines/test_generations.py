"""The forecast per generation of TensorRT: what the target's data change, as networks of a few nodes."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given

from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.share import Int8Share
from qdqgraph.graph.graph import Graph
from qdqgraph.targets.target import NAMES, Target
from tests.support.forecasts import LARGER, NEW, OLD, SQUARE, engine, kernels, rules, said
from tests.support.graphs import nets

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


WEIGHTS = f"""w = Constant <value = int8[4,4,1,1] {{{", ".join(["1"] * 16)}}}> () k = DequantizeLinear (w, s1)"""
BARE = {
    "Pad, two convolutions": (
        18,
        PADS,
        "m = Pad ({}, pads)",
        "b = Conv ({0}, k) c = Conv ({0}, k) y = Add (b, c)",
    ),
    "nearest Resize": (32, "float[4] n = {1, 1, 2, 2}", 'm = Resize <mode = "nearest"> ({}, , n)', "y = Conv ({}, k)"),
}


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("move", BARE.values(), ids=BARE)
def test_a_dq_of_tensorrt_rtx_does_not_move_over_a_pad_or_resize(move: tuple[int, str, str, str], target: str) -> None:
    """Measured on TensorRT-RTX 1.7.1: benchmarks/rtx_experiments.py; with a pair downstream, the Q moves over it."""
    size, extra, node, layers = move
    before = f"r = t.conv4 (x, s1) p = t.pair (r, s2) {node.format('p')} {WEIGHTS}"
    unpaired = engine(LARGER.format(size, extra, f"{before} {layers.format('m')}"), target).layers
    paired = engine(LARGER.format(size, extra, f"{before} e = t.pair (m, s2) {layers.format('e')}"), target).layers
    cores = [[x.inputs[0].precision for x in found if x.kind == "Convolution"][1:] for found in (unpaired, paired)]
    assert set(cores[0]) == {"FP32" if target == "trt-rtx" else "INT8"} and set(cores[1]) == {"INT8"}


@pytest.mark.parametrize("target", NAMES)
def test_a_max_pool_of_three_dimensions_runs_in_floating_point_on_tensorrt_rtx(target: str) -> None:
    """Measured on TensorRT-RTX 1.7.1: benchmarks/rtx_experiments.py."""
    shapes = "int64[5] volume = {1, 4, 4, 8, 8}, int64[4] image = {1, 4, 16, 16}"
    pool = "p = MaxPool <kernel_shape = [3, 3, 3], pads = [1, 1, 1, 1, 1, 1]> (q)"
    body = f"a = t.conv4 (x, s1) v = Reshape (a, volume) q = t.pair (v, s2) {pool} b = Reshape (p, image) y = t.conv4 (b, s2)"
    (found,) = (x for x in engine(LARGER.format(16, shapes, body), target).layers if x.kind == "Pooling")
    assert found.inputs[0].precision == ("FP32" if target == "trt-rtx" else "INT8")


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

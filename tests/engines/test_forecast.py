"""The forecast of kernels by the rules of TensorRT 8: rule by rule, and against engines that NVIDIA built.

`test_generations.py` has the rules of later generations.
"""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given

from qdqgraph.engines.compare.diff import Diff, diff
from qdqgraph.engines.forecast.evidence import RULES
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.read.names import of_layer
from qdqgraph.engines.read.saved import open_engine
from qdqgraph.graph.graph import Graph
from qdqgraph.targets.target import Target
from tests.support import torchscript
from tests.support.forecasts import SKIP, forecast_layers, names, rules, types
from tests.support.graphs import nets
from tests.support.models import build as model_of
from tests.support.paths import DATA, NVIDIA, ROOT

CONV = "g (float[1,4,16,16] x) => (float[1,4,16,16] y) {{ a = t.conv4 (x, s1) {} }}"


def test_batch_norm_and_activation_fuse_and_a_q_behind_makes_the_output_int8() -> None:
    first, conv, last = forecast_layers(CONV.format("r = Relu (a) y = t.conv4 (r, s2)"))
    assert (first.cause, rules(first)) == ("Q/DQ", ["R30"])
    assert names((conv, last)) == [["Conv", "Relu"], ["Conv"]]
    assert (types(conv), types(last)) == ("INT8 -> INT8", "INT8 -> FP32")


@pytest.mark.parametrize(
    ("operator", "kernels"),
    [
        ("Div (a, two)", [["Conv", "Div"], ["Conv"]]),
        ("Sub (two, a)", [["Conv", "Sub"], ["Conv"]]),
        ("Div (two, a)", [["Conv"], ["Div"], ["Conv"]]),
    ],
)
def test_a_constant_factor_or_offset_folds_into_the_convolution(operator: str, kernels: list[list[str]]) -> None:
    """A constant divided by the result is neither."""
    layers = forecast_layers(CONV.format(f"two = Constant <value = float {{2}}> () m = {operator} y = t.conv4 (m, s2)"))
    assert names(tuple(layer for layer in layers if not layer.cause)) == kernels


def test_an_element_wise_kernel_in_floating_point_reads_int8_without_a_separate_dq() -> None:
    conv, last = forecast_layers(CONV.format("p = t.pair (a, s2) y = Sin (p)"))[1:]
    assert (types(conv), types(last)) == ("INT8 -> INT8", "INT8 -> FP32")
    assert rules(last)[-1] == "F4"


def test_a_pair_that_no_kernel_absorbs_is_two_reformats_also_before_an_element_wise_kernel() -> None:
    layers = forecast_layers(CONV.format("r = Sin (a) p = t.pair (r, s2) y = Sin (p)"))
    assert [bool(x.cause) for x in layers] == [True, False, False, True, True, False]
    assert types(layers[-1]) == "FP16 -> FP32"


@pytest.mark.parametrize(
    ("data", "weights", "int8"),
    [
        ("Cast <to = 1> (d)", "Cast <to = 1> (k)", True),
        ("Cast <to = 10> (d)", "Cast <to = 10> (k)", True),
        ("Cast <to = 10> (h)", "Cast <to = 10> (k)", True),
        ("Cast <to = 1> (h)", "Cast <to = 1> (k)", False),
        ("Cast <to = 1> (d)", "Cast <to = 1> (m)", False),
        ("Cast <to = 1> (d)", "Cast <to = 1> (b)", False),
        ("Cast <to = 1> (d)", "Cast <to = 1> (n)", False),
    ],
)
def test_rounding_to_16_bits_between_dq_and_layer_makes_it_floating_point(data: str, weights: str, int8: bool) -> None:
    """Measured on TensorRT-RTX 1.7.1; tests/cases/44-weight-path-dqcast builds such a network."""
    kind = "float16" if "10" in data else "float"
    layers = forecast_layers(
        f"""g (float[1,1,4,4] x) => ({kind}[1,1,4,4] y)
            <int8 z = {{0}}, int8[1,1,1,1] w = {{64}}, float16 sh = {{1}}> {{
            q = QuantizeLinear (x, s1, z) d = DequantizeLinear (q, s1, z) h = Cast <to = 10> (d)
            k = DequantizeLinear (w, s2, z) m = Cast <to = 10> (k) b = Cast <to = 16> (k) n = DequantizeLinear (w, sh, z)
            left = {data} right = {weights} y = Conv (left, right) }}""",
        opset=19,
    )
    (conv,) = (x for x in layers if x.kind == "Convolution")
    assert (conv.precision == "INT8", "F5" in rules(conv)) == (int8, not int8)


@pytest.mark.parametrize("kind", ["Sigmoid (a) r = Mul (a, g)", "HardSigmoid (a) r = Mul (g, a)"])
def test_a_gate_fuses_with_the_convolution(kind: str) -> None:
    _, conv, _ = forecast_layers(CONV.format(f"g = {kind} y = t.conv4 (r, s2)"))
    assert len(conv.nodes) == 4, "weight, convolution, gate, product"
    assert "R20" in rules(conv)


def test_a_pair_inside_a_block_ends_the_kernel_there() -> None:
    layers = forecast_layers(CONV.format("p = t.pair (a, s2) r = Relu (p) y = t.conv4 (r, s3)"))
    assert names(layers)[1:] == [["Conv"], ["Relu"], ["Conv"]]
    assert types(layers[2]) == "INT8 -> INT8"


def test_a_float_skip_keeps_the_result_of_the_add_in_float_and_leaves_two_qs_over() -> None:
    layers = forecast_layers(SKIP.format("Identity (r)"))
    assert names(layers) == [
        ["QuantizeLinear"], ["Conv", "Relu"], ["QuantizeLinear"], ["Conv", "Add", "Relu"], ["QuantizeLinear"], ["Conv"]
    ]  # fmt: skip
    assert types(layers[3]) == "INT8+FP16 -> FP16"
    assert "R12" in rules(layers[3])
    assert rules(layers[2]) == ["R14"], "the convolution wants it as INT8, the skip as float"


def test_a_quantized_skip_makes_the_block_one_int8_kernel() -> None:
    layers = forecast_layers(SKIP.format("t.pair (r, s2)"))
    assert names(layers)[1:] == [["Conv", "Relu"], ["Conv", "Add", "Relu"], ["Conv"]]
    assert types(layers[2]) == "INT8+INT8 -> INT8"


def test_a_skip_with_another_scale_is_quantized_apart() -> None:
    layers = forecast_layers(SKIP.format("t.pair (r, s4)"))
    assert [x.cause for x in layers] == ["Q/DQ", "", "Q/DQ", "Q/DQ", "", ""]


def test_a_pair_on_the_convolutions_side_makes_the_add_a_kernel_of_its_own() -> None:
    layers = forecast_layers(SKIP.format("t.pair (r, s2)").replace("c = Add (b", "bq = t.pair (b, s4) c = Add (bq"))
    assert names(layers)[1:] == [["Conv", "Relu"], ["Conv"], ["Add", "Relu"], ["Conv"]]
    assert types(layers[3]) == "INT8+INT8 -> INT8"


def test_a_max_pool_moves_int8_and_fuses_with_the_convolution_in_front() -> None:
    pool = "p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (r)"
    layers = forecast_layers(CONV.format(f"r = Relu (a) {pool} y = t.conv4 (p, s2)"))
    assert names(layers)[1:] == [["Conv", "Relu", "MaxPool"], ["Conv"]]
    beside = forecast_layers(CONV.format(f"r = Relu (a) {pool} b = t.conv4 (p, s2) y = Add (b, r)"))
    assert names(beside)[1:] == [["Conv", "Relu"], ["MaxPool"], ["QuantizeLinear"], ["Conv", "Add"]]
    assert types(beside[2]) == "FP16 -> FP16"


CONCAT = """g (float[1,4,16,16] x) => (float[1,4,16,16] y) {{
    a = t.conv4 (x, s1)
    b = t.conv4 (x, s1)
    {}
    y = t.conv8 (c, s3)
}}"""


def test_a_q_behind_a_concat_is_absorbed_by_what_makes_its_inputs() -> None:
    layers = forecast_layers(CONCAT.format("c = Concat <axis = 1> (a, b)"))
    assert [x.cause for x in layers] == ["Q/DQ", "", "", "", ""]
    assert types(layers[3]) == "INT8+INT8 -> INT8"


def test_inputs_of_a_concat_with_other_scales_are_quantized_again() -> None:
    layers = forecast_layers(CONCAT.format("p = t.pair (a, s2) q = t.pair (b, s4) c = Concat <axis = 1> (p, q)"))
    assert [types(x) for x in layers if x.cause][1:] == ["INT8 -> INT8"] * 2
    assert all(rules(x) == ["R15"] for x in layers[3:] if x.cause)


def test_an_average_between_dq_and_q_runs_in_int8_and_one_without_leaves_both_over() -> None:
    pool = "p = GlobalAveragePool ({}) y = t.conv4 (p, s2)"
    quantized = forecast_layers(
        CONV.format("q = t.pair (a, s3) " + pool.format("q")).replace("(float[1,4,16,16] y)", "(float[1,4,1,1] y)")
    )
    assert [types(x) for x in quantized[1:]] == ["INT8 -> INT8", "INT8 -> INT8", "INT8 -> FP32"]
    bare = forecast_layers(CONV.format(pool.format("a")).replace("(float[1,4,16,16] y)", "(float[1,4,1,1] y)"))
    assert [types(x) for x in bare[1:]] == ["INT8 -> FP16", "FP16 -> FP16", "FP16 -> INT8", "INT8 -> FP32"]


def test_softmax_runs_in_float_and_a_q_behind_it_is_left_over() -> None:
    layers = forecast_layers(CONV.format("p = t.pair (a, s2) r = Softmax <axis = 1> (p) y = t.conv4 (r, s3)"))
    assert names(layers)[2:] == [["DequantizeLinear"], ["Softmax"], ["QuantizeLinear"], ["Conv"]]
    assert "R28" in rules(layers[3])


def test_a_pair_that_nothing_absorbs_is_executed_there_and_back() -> None:
    layers = forecast_layers("g (float[1,4] x) => (float[1,4] y) { p = t.pair (x, s1) y = Softmax (p) }")
    assert [x.cause for x in layers] == ["Q/DQ", "Q/DQ", ""]


def test_a_pair_at_an_output_is_a_kernel() -> None:
    layers = forecast_layers(CONV.format("y = t.pair (a, s2)"))
    assert (layers[-1].cause, rules(layers[-1]), types(layers[-1])) == ("Q/DQ", ["R30"], "INT8 -> FP32")


def test_a_float_network_is_fused_as_well_and_has_no_reformats() -> None:
    text = (
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] w = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}>"
        "{ a = Conv (x, w) r = Relu (a) b = Conv (r, w) c = Add (b, r) y = Relu (c) }"
    )
    layers = forecast_layers(text, "trt-11")
    assert names(layers) == [["Conv", "Relu"], ["Conv", "Add", "Relu"]]
    assert not any(x.cause for x in layers)
    first, *mine, last = forecast_layers(text)
    assert names((*mine,)) == names(layers)
    assert [(x.cause, types(x), rules(x)) for x in (first, last)] == [
        ("type", "FP32 -> FP16", ["F12"]),
        ("type", "FP16 -> FP32", ["F12"]),
    ]


def test_weak_typing_runs_the_rest_in_fp16_and_strong_typing_as_the_file_says() -> None:
    text = CONV.format("y = Softmax <axis = 1> (a)")
    assert types(forecast_layers(text, "trt-10")[1]) == "INT8 -> FP16"
    assert types(forecast_layers(text, "trt-11")[1]) == "INT8 -> FP32"


def test_the_documentation_lists_the_rules() -> None:
    page = (ROOT / "docs" / "engines.md").read_text()
    for rule, (fact, link) in RULES.items():
        assert f"| {rule} | {fact} | {link} |" in page


def test_every_reformat_says_why() -> None:
    for layer in forecast_layers(SKIP.format("Identity (r)")):
        assert layer.why and all(r.link.startswith("https://") and r.text for r in layer.why)


@given(nets)
def test_any_graph_is_forecast_whole(model: onnx.ModelProto) -> None:
    """Every tensor is produced before it is read, and reformats are only where two formats meet."""
    graph = Graph(model)
    layers = forecast(graph, "m").layers
    made = set(graph.inputs)
    for layer in layers:
        assert {t.name for t in layer.inputs} <= made, layer.name
        made |= {t.name for t in layer.outputs}
        if layer.cause:
            assert layer.inputs != layer.outputs
    assert graph.outputs <= made | {t.name for x in layers for t in x.inputs} | graph.inputs


# Against NVIDIA's engines


def against(name: str, residual: bool) -> Diff:
    folder = NVIDIA if NVIDIA.is_dir() else DATA
    found = forecast(Graph(torchscript.resnet18(residual=residual), target=Target.named("trt-8.6")), "forecast")
    return diff(found, open_engine(folder / f"{name}.graph.json"))


@pytest.mark.parametrize(("name", "residual"), [("qat", False), ("qat-residual", True)])
def test_the_forecast_of_nvidias_resnet_18_has_its_kernels_and_its_reformats(name: str, residual: bool) -> None:
    """All but two copies that depend on tactics: FP32 to FP16 after a pool, one layout before another."""
    found = against(name, residual)
    assert not found.fused_differently, "every convolution kernel holds the same nodes"
    assert not found.only_b
    measured = [x for x in found.reformats_added if x.cause != "Q/DQ"]
    assert found.reformats_added == tuple(measured)
    assert len(measured) == (0 if residual else 2)
    assert not found.layout_changed, "a forecast has no layouts"
    assert not found.worse
    if NVIDIA.is_dir():
        assert not found.only_a and not found.reformats_removed
        assert found.same == (22 if residual else 23)


@pytest.mark.parametrize(("name", "residual"), [("qat", False), ("qat-residual", True)])
def test_the_forecast_says_what_nvidias_kernels_read_and_write_as_int8(name: str, residual: bool) -> None:
    for group in against(name, residual).precision_changed:
        sides = [[t.precision == "INT8" for t in (*x.inputs, *x.outputs)] for x in (group.a[0], group.b[0])]
        assert sides[0] == sides[1], "FP32 in place of FP16 is all that differs"


def test_the_forecast_of_nvidias_mobilenet_v2_has_its_kernels() -> None:
    """Depthwise convolutions, Clip, skips without ReLU: 52 convolution kernels, one layout copy that depends on tactics."""
    found = forecast(Graph(torchscript.mobilenet_v2(residual=True), target=Target.named("trt-8.6")), "forecast")
    real = [of_layer(line, "") for line in (DATA / "mobilenet_v2_residuals.layers.txt").read_text().splitlines()]
    theirs = {frozenset(nodes) for nodes, _ in real if nodes}
    known = frozenset().union(*theirs)
    ours = {frozenset(n for n in x.nodes if n in known) for x in found.layers if x.nodes}
    kernels = {k for k in theirs if not any(n.startswith(("Global", "Gemm", "classifier")) for n in k)}
    assert kernels <= ours and len(kernels) == 52
    assert len(found.reformats) == len([1 for nodes, quantizers in real if quantizers and not nodes]) == 2


@pytest.mark.parametrize(
    "function",
    [
        "g = Relu (a) r = Mul (g, g)",
        "g = Sin (a) h = Mul (g, g) r = Add (a, h)",
        "g = Div (a, k) h = Erf (g) i = Add (h, k) r = Mul (a, i)",
    ],
    ids=["squared ReLU", "snake", "GELU by Erf"],
)
def test_a_function_of_one_tensor_fuses_whatever_its_nodes(function: str) -> None:
    text = f"""g (float[1,4,16,16] x) => (float[1,4,16,16] y) <float k = {{3}}> {{
        a = t.conv4 (x, s1) {function} y = t.conv4 (r, s2) }}"""
    _, block, last = forecast_layers(text)
    assert types(block) == "INT8 -> INT8" and types(last) == "INT8 -> FP32" and "R20" in rules(block)


def test_what_else_reads_the_tensor_ends_the_kernel_before_the_function() -> None:
    text = """g (float[1,4,16,16] x) => (float[1,4,16,16] y, float[1,4,16,16] v) {
        a = t.conv4 (x, s1) g = Sigmoid (a) r = Mul (a, g) v = Neg (a) y = t.conv4 (r, s2) }"""
    assert ["Conv"] in names(forecast(Graph(model_of(text)), "m").layers)

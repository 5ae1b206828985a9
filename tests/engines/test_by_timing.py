"""What TensorRT decides by timing, and what runs in the kernel of a convolution, as networks of a few nodes."""

from __future__ import annotations

import pytest

from qdqgraph.engines.layers import Layer
from qdqgraph.targets.target import NAMES
from tests.support.forecasts import NEW, OLD, SQUARE, engine, kernels, said
from tests.support.models import build as model_of
from tests.support.models import fixed


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

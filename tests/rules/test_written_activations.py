"""QDQ301: pairs inside activations that are written as several nodes, between two INT8 convolutions."""

import re

import numpy as np
import pytest

import qdqgraph
from qdqgraph.rulekit import Graph, pairs
from tests.support.models import build, fixed

IMAGE = "float[1,4,8,8]"
CONSTANTS = (
    "<float three = {3}, float six = {6}, float sixth = {0.16666667}, float zero = {0}, float half = {0.5}, float one = {1},"
    " float tiny = {0.0447}, float root = {1.4142135}, float[1,4,1,1] channels = {1, 2, 3, 4}>"
)
HARD_SIGMOID = "a = Add (c, three) b = Clip (a, zero, six)"

FUSED = {
    "HardSwish, divided": f"{HARD_SIGMOID} m = Mul (c, b) h = Div (m, six)",
    "HardSwish, multiplied": f"{HARD_SIGMOID} m = Mul (c, b) h = Mul (m, sixth)",
    "GELU by Erf": "u = Div (c, root) e = Erf (u) a = Add (e, one) m = Mul (c, a) h = Mul (m, half)",
    "GELU by Erf, half first": "u = Div (c, root) e = Erf (u) a = Add (e, one) b = Mul (c, half) h = Mul (b, a)",
    "SiLU by Exp": "n = Neg (c) e = Exp (n) a = Add (e, one) h = Div (c, a)",
    "softsign": "b = Abs (c) a = Add (b, one) h = Div (c, a)",
    "snake": "b = Mul (c, tiny) s = Sin (b) p = Mul (s, s) g = Mul (p, half) h = Add (c, g)",
    "PReLU": "r = Relu (c) n = Neg (c) p = Relu (n) g = Mul (p, tiny) h = Sub (r, g)",
    "squared ReLU": "r = Relu (c) h = Mul (r, r)",
    "bias and ReLU": "a = Add (c, channels) h = Relu (a)",
}
"""What TensorRT computes in the kernel of the convolution."""
APART = {
    "HardSigmoid, divided": f"{HARD_SIGMOID} h = Div (b, six)",
    "HardSigmoid, multiplied": f"{HARD_SIGMOID} h = Mul (b, sixth)",
    "softplus": "e = Exp (c) a = Add (e, one) h = Log (a)",
}
"""What it computes in a second kernel, by the forecast: one pair, where the first kernel ends, keeps its result INT8."""


def quantized_everywhere(function: str) -> str:
    """The function with a pair at its input and after every node but the last, as exporters that quantize all operators
    write it."""
    text = "p_c = t.pair (c, s2) "
    for step in re.findall(r"\w+ = \w+ \([^)]*\)", function):
        made, call = step.split(" = ", 1)
        text += f"{made} = " + re.sub(r"\b([a-z])\b", r"p_\1", call) + f" p_{made} = t.pair ({made}, s2) "
    return text.removesuffix("p_h = t.pair (h, s2) ")


def inner_pairs(function: str) -> tuple[set[str], qdqgraph.Result]:
    model = build(
        f"g ({IMAGE} x) => ({IMAGE} y) {CONSTANTS} {{ c = t.conv4 (x, s1) {quantized_everywhere(function)} y = t.conv4 (h, s1) }}"
    )
    result = fixed(model)
    return {p.site for p in pairs(Graph(result.model)) if p.kind == "activation"} - {"x", "h"}, result


@pytest.mark.parametrize("function", FUSED.values(), ids=FUSED)
def test_no_pair_remains_inside_an_activation(function: str) -> None:
    left, result = inner_pairs(function)
    assert not left and not [f for f in result.left if f.code == "QDQ301"]
    assert not Graph(result.model).nodes("Clip") or "Clip" in function


@pytest.mark.parametrize("function", APART.values(), ids=APART)
def test_one_pair_remains_where_the_kernel_of_the_convolution_ends(function: str) -> None:
    left, result = inner_pairs(function)
    (refused,) = [f for f in result.left if f.code == "QDQ301"]
    assert len(left) == 1 and refused.refused.startswith("would add ")


def test_the_range_of_a_pair_stays_the_limit_of_a_hard_sigmoid_without_a_clip() -> None:
    """Exporters leave Clip(0, 6) out if the pair has its range: after a Relu, 6 is in the pair alone."""
    model = build(
        f"""g ({IMAGE} x) => ({IMAGE} y) <float three = {{3}}, float six = {{6}}, float s = {{{6 / 127!r}}}> {{
            c = t.conv4 (x, s1) a = Add (c, three) r = Relu (a) p = t.pair (r, s) h = Div (p, six) y = t.conv4 (h, s1) }}"""
    )
    (found,) = [f for f in qdqgraph.check(model).findings if f.code == "QDQ301"]
    assert found.help == "read 'r' through a Clip to the range of the pair"
    result = fixed(model, also=("QDQ301",))
    graph = Graph(result.model)
    (clip,) = graph.nodes("Clip")
    high = graph.value(clip.inputs[2].name)
    assert high is not None and np.isclose(high, 6) and graph.node("h").inputs[0].name == clip.outputs[0].name


@pytest.mark.parametrize(
    "rest",
    [
        "m = Mul (p, channels) h = Relu (m)",
        "m = Mul (p, half) n = Mul (p, tiny) e = t.conv4 (n, s1) h = Add (m, e)",
    ],
    ids=["a factor for each channel", "read by two branches"],
)
def test_a_pair_after_a_whole_activation_stays(rest: str) -> None:
    model = build(
        f"""g ({IMAGE} x) => ({IMAGE} y) {CONSTANTS} {{
            c = t.conv4 (x, s1) r = Relu (c) p = t.pair (r, s2) {rest} y = t.conv4 (h, s1) }}"""
    )
    assert not [f for f in qdqgraph.check(model).findings if f.code == "QDQ301" and f.place.startswith("r")]
    assert pairs(Graph(fixed(model).model)).at("r")

"""Places: which side of a residual Add carries the pair, and who may see rounded values."""

import re
from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph.calibration.noise import noise
from qdqgraph.rulekit import Graph, residuals
from qdqgraph.verify.comparison import compare
from tests.support.models import build, fixed, reads_pair, scales

X = "float[1,4,8,8] x"
SILU = "g1 = Sigmoid (c1) c = Mul (c1, g1)"

BLOCKS = {
    "conv": "c = t.conv4 (a, s2)",
    "conv → batch norm": "c1 = t.conv4 (a, s2) c = BatchNormalization (c1, one, zero, zero, one)",
    "conv → SiLU": f"c1 = t.conv4 (a, s2) {SILU}",
    "conv → GELU by Tanh": "c1 = t.conv4 (a, s2) g1 = Pow (c1, three) g2 = Mul (g1, k) g3 = Add (c1, g2) g4 = Tanh (g3) "
    "g5 = Add (g4, k) g6 = Mul (c1, g5) c = Mul (g6, k)",
    "conv → squared ReLU": "c1 = t.conv4 (a, s2) g1 = Relu (c1) c = Mul (g1, g1)",
    "conv → snake": "c1 = t.conv4 (a, s2) g1 = Sin (c1) g2 = Mul (g1, g1) c = Add (c1, g2)",
    "conv → hard swish": "c1 = t.conv4 (a, s2) g1 = Add (c1, three) g2 = Clip (g1, low, six) g3 = Mul (c1, g2) c = Div (g3, six)",
}
CONSTANTS = (
    "<float[4] one = {1, 1, 1, 1}, float[4] zero = {0, 0, 0, 0}, float three = {3}, float low = {0}, float six = {6},"
    " float k = {0.1}>"
)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_the_skip_carries_the_pair_and_the_convolution_side_stays_bare(block: str, swapped: bool) -> None:
    add = "r = Add (c, a)" if swapped else "r = Add (a, c)"
    model = build(f"g ({X}) => (float[1,4,8,8] y) {CONSTANTS} {{ a = Relu (x) {block} {add} y = t.conv4 (r, s3) }}")
    result = fixed(model)
    (found,) = residuals(Graph(result.model))
    assert found.conv is not None and found.conv.site == "c" and found.conv.pair is None
    assert [s.site for s in found.skips] == ["a"] and found.skips[0].pair is not None


FUNCTIONS_OF_ONE_TENSOR = {
    "GELU by Tanh and Pow": "p = Pow (c, three) m = Mul (p, k) a = Add (c, m) n = Mul (a, k) h = Tanh (n) e = Add (h, k) o = Mul (c, e)",
    "GELU by Tanh and Mul": "u = Mul (c, k) p = Mul (c, c) q = Mul (p, c) m = Mul (k, q) a = Add (m, c) h = Tanh (a) e = Add (k, h) o = Mul (u, e)",
    "GELU by Erf": "u = Div (c, k) h = Erf (u) e = Add (h, k) n = Mul (c, e) o = Mul (n, k)",
    "QuickGELU": "u = Mul (c, k) h = Sigmoid (u) o = Mul (c, h)",
    "Mish": "u = Exp (c) e = Add (u, k) l = Log (e) h = Tanh (l) o = Mul (c, h)",
    "squared ReLU": "u = Relu (c) o = Mul (u, u)",
    "a difference of two": "u = Relu (c) h = Tanh (c) e = Neg (h) o = Add (u, e)",
    "a pair inside": "p = t.pair (c, s3) h = Sigmoid (p) o = Mul (p, h)",
}


@pytest.mark.parametrize("function", FUNCTIONS_OF_ONE_TENSOR.values(), ids=FUNCTIONS_OF_ONE_TENSOR)
def test_a_function_of_one_tensor_holds_no_residual_and_no_gate(function: str) -> None:
    text = f"g ({X}) => (float[1,4,8,8] y) {CONSTANTS} {{ c = t.conv4 (x, s2) {function} y = t.conv4 (o, s1) }}"
    found = qdqgraph.check(build(text))
    assert not {f.code for f in found} & {"QDQ201", "QDQ202", "QDQ204"}


@pytest.mark.parametrize("name", ["GELU by Tanh and Pow", "GELU by Tanh and Mul", "squared ReLU"])
def test_a_pair_in_front_of_such_a_function_goes_and_the_one_behind_stays(name: str) -> None:
    function = re.sub(r"\bc\b", "pc", FUNCTIONS_OF_ONE_TENSOR[name])
    text = f"""g ({X}) => (float[1,4,8,8] y) {CONSTANTS} {{
        c = t.conv4 (x, s2) pc = t.pair (c, s3) {function} y = t.conv4 (o, s1) }}"""
    result = fixed(build(text))
    assert not reads_pair(result.model, "o", 0) and reads_pair(result.model, "y", 0)
    assert result.pairs_before == 3 and result.pairs_after == 2


@pytest.mark.parametrize(
    ("two", "code"),
    {
        "u = t.conv4 (c, s3) o = Add (u, c)": "QDQ201",
        "u = Relu (c) v = t.conv4 (u, s3) o = Add (u, v)": "QDQ201",
        "u = GlobalAveragePool (c) h = Sigmoid (u) o = Mul (c, h)": "QDQ204",
        "u = Softmax (c) o = Mul (c, u)": "QDQ204",
        "u = Transpose <perm = [0, 1, 3, 2]> (c) o = Mul (c, u)": "QDQ204",
        "u = Relu (c) h = Sigmoid (x) o = Mul (u, h)": "QDQ204",
    }.items(),
)
def test_two_tensors_are_no_function_of_one(two: str, code: str) -> None:
    """A convolution, an average, a Softmax or a move takes in more than the one element."""
    text = f"g ({X}) => (float[1,4,8,8] y) {CONSTANTS} {{ c = t.conv4 (x, s2) {two} y = t.conv4 (o, s1) }}"
    assert code in {f.code for f in qdqgraph.check(build(text))}


def test_both_operands_paired_become_one_bare() -> None:
    text = f"""g ({X}) => (float[1,4,8,8] y) {{
        a = Relu (x)  c = t.conv4 (a, s2)  pa = t.pair (a, s3)  pc = t.pair (c, s4)
        r = Add (pa, pc)  y = t.conv4 (r, s5) }}"""
    result = fixed(build(text))
    assert reads_pair(result.model, "r", 0) and not reads_pair(result.model, "r", 1)


def test_of_two_paired_convolutions_the_longer_path_is_bare() -> None:
    text = f"""g ({X}) => (float[1,4,8,8] y) {{
        a = Relu (x)  c = t.conv4 (a, s2)  long = t.conv4 (c, s1)  short = t.conv4 (a, s2)
        ps = t.pair (short, s3)  pl = t.pair (long, s4)
        r = Add (ps, pl)  y = t.conv4 (r, s5) }}"""
    result = fixed(build(text))
    assert reads_pair(result.model, "r", 0) and not reads_pair(result.model, "r", 1)


def test_a_convolution_beside_the_skip_reads_the_pair_behind_a_pool_of_int8_values() -> None:
    """NNCF lets both read the pool bare; with a pair for the Add alone TensorRT-RTX runs that convolution in float."""
    text = f"""g ({X}) => (float[1,4,8,8] y)
        <int8[4,4,1,1] w = {{8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}, float sw = {{0.01}}, int8 zw = {{0}}> {{
        k = DequantizeLinear (w, sw, zw)  px = t.pair (x, s1)
        p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (px)
        c = Conv (p, k)  r = Add (c, p)  y = t.conv4 (r, s2) }}"""
    result = fixed(build(text))
    assert reads_pair(result.model, "c", 0)
    assert reads_pair(result.model, "r", 1) and not reads_pair(result.model, "r", 0)


def test_what_else_reads_the_pool_stays_as_it_is() -> None:
    """A loop that captures the pool's result, and a Softmax: neither is a convolution beside the skip."""
    text = f"""g ({X}, float[1,4,8,8] h) => (float[1,4,8,8] y, float[1,4,8,8] o, float[1,4,8,8] m)
        <int64 n = {{2}}, bool t = {{1}}> {{
        px = t.pair (x, s1)  p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (px)
        c = t.conv4 (p, s3)  r = Add (c, p)  y = t.conv4 (r, s2)  m = Softmax (p)
        o = Loop <body = inner (int64 i, bool go, float[1,4,8,8] carried) => (bool on, float[1,4,8,8] next) {{
            on = Identity (go)  next = Add (carried, p) }}> (n, t, h) }}"""
    result = fixed(build(text))
    nodes = {n.output[0]: n for n in result.model.graph.node}
    assert list(nodes["o"].input) == ["n", "t", "h"] and list(nodes["m"].input) == ["p"]
    assert list(nodes["o"].attribute[0].g.node[1].input) == ["carried", "p"]
    assert reads_pair(result.model, "r", 1)


def test_a_branch_that_captures_the_pool_keeps_its_condition() -> None:
    text = f"""g ({X}, bool t) => (float[1,4,8,8] y, float[1,4,8,8] o) {{
        px = t.pair (x, s1)  p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (px)
        c = t.conv4 (p, s3)  r = Add (c, p)  y = t.conv4 (r, s2)
        o = If <then_branch = yes () => (float[1,4,8,8] a) {{ a = Relu (p) }},
                else_branch = no () => (float[1,4,8,8] b) {{ b = Neg (p) }}> (t) }}"""
    result = fixed(build(text))
    node = next(n for n in result.model.graph.node if n.op_type == "If")
    assert list(node.input) == ["t"] and [a.g.node[0].input[0] for a in node.attribute] == ["p", "p"]
    assert reads_pair(result.model, "r", 1)


def test_two_bare_convolutions_without_a_scale_are_reported_and_left() -> None:
    text = f"""g ({X}) => (float[1,4,8,8] y) {{
        a = Relu (x)  c = t.conv4 (a, s2)  long = t.conv4 (c, s1)  short = t.conv4 (a, s2)
        r = Add (long, short)  y = t.conv4 (r, s5) }}"""
    model = build(text)
    result = fixed(model)
    assert not reads_pair(result.model, "r", 0) and not reads_pair(result.model, "r", 1)
    (left,) = result.left
    assert left.code == "QDQ201" and "'short', the shorter path" in left.message and not left.repairable


def test_a_scale_too_small_for_the_skip_is_not_used() -> None:
    """A convolution reads a part of the tensor only: its scale says nothing about the rest."""
    text = f"""g ({X}) => (float[1,4,8,8] y, float[1,2,8,8] v) <int64[1] from = {{0}}, int64[1] to = {{2}}, int64[1] axis = {{1}}> {{
        a = Relu (x)  part = Slice (a, from, to, axis)  v = t.pair (part, s1)
        b = Sigmoid (x)  c = t.conv4 (b, s2)  r = Add (c, a)  y = t.conv4 (r, s5) }}"""
    result = fixed(build(text))
    assert not reads_pair(result.model, "r", 1)
    assert [f.code for f in result.left] == ["QDQ201"]


def test_a_head_that_read_raw_values_still_does() -> None:
    text = f"""g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v, float[1,8,8,8] head) {{
        a = t.conv4 (x, s5)  b = t.conv4 (x, s5)
        y = t.conv4 (a, s1)  c = Concat <axis = 1> (a, b)  v = t.conv8 (c, s1)  head = Sigmoid (c) }}"""
    result = fixed(build(text))
    assert not reads_pair(result.model, "c", 0) and not reads_pair(result.model, "head", 0)


def test_a_pair_is_placed_exactly_only_with_the_scale_behind() -> None:
    """The pool's group has a scale of its own; the Concat downstream rounds with another one until both are tied."""
    text = f"""g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v, float[1,4,4,4] head) {{
        a = Relu (x)  y = t.conv4 (a, s1)
        p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)
        h = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (p)  head = Neg (h)
        c = Concat <axis = 1> (p, a)  v = t.conv8 (c, s5) }}"""
    model = build(text)
    exact = fixed(model, exact=True)
    assert all(a.identical for a in compare(model, exact.model, noise(model, 2), Path()).values())
    assert scales(fixed(model).model) == {"a": {0.14}, "p": {0.14}, "c": {0.14}}


def test_a_graph_output_that_was_raw_still_is() -> None:
    text = f"""g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v, float[1,8,8,8] c) {{
        a = t.conv4 (x, s5)  b = t.conv4 (x, s5)
        y = t.conv4 (a, s1)  c = Concat <axis = 1> (a, b)  v = t.conv8 (c, s1) }}"""
    model = build(text)
    result = fixed(model)
    assert not reads_pair(result.model, "c", 0)


def test_a_pair_is_never_put_inside_a_silu() -> None:
    text = f"""g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v) {{
        c1 = t.conv4 (x, s5)  {SILU}
        y = t.conv4 (c, s1)  e = Concat <axis = 1> (c, c)  v = t.conv8 (e, s1) }}"""
    result = fixed(build(text))
    graph = Graph(result.model)
    assert {r.node.op for r in graph.readers("c1")} == {"Sigmoid", "Mul"}
    assert reads_pair(result.model, "e", 0) and reads_pair(result.model, "e", 1)


def test_duplicates_that_a_tie_makes_are_merged() -> None:
    text = f"g ({X}) => (float[1,4,8,8] y, float[1,4,8,8] v) {{ a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }}"
    result = fixed(build(text))
    assert sum(n.op_type == "QuantizeLinear" for n in result.model.graph.node) == 1
    assert result.pairs_before == 2 and result.pairs_after == 1


def test_a_tensor_captured_by_a_subgraph_is_a_float_reader() -> None:
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["c"], ["o"])],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, [1, 8, 8, 8])],
    )
    text = f"""g ({X}, bool cond) => (float[1,4,8,8] y, float[1,4,8,8] v, float[1,8,8,8] head) {{
        a = t.conv4 (x, s5)  b = t.conv4 (x, s5)
        y = t.conv4 (a, s1)  c = Concat <axis = 1> (a, b)  v = t.conv8 (c, s1)  head = Sigmoid (c) }}"""
    model = build(text)
    branch = onnx.helper.make_node("If", ["cond"], ["head"], then_branch=inner, else_branch=inner)
    model.graph.node.remove(next(n for n in model.graph.node if n.output[0] == "head"))
    model.graph.node.append(branch)
    result = fixed(model)
    assert not reads_pair(result.model, "c", 0)

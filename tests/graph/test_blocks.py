"""Residual Adds: which operand fuses; blocks: what belongs to a convolution."""

from qdqgraph.graph.blocks import owners
from qdqgraph.rulekit import Graph, residuals
from tests.support.models import build


def test_a_convolution_that_is_a_graph_output_does_not_fuse_with_an_add() -> None:
    """TensorRT writes it as it is, so the other convolution is the one that takes the Add in."""
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] OUT) {
        a = t.pair (x, s1)  b = Relu (a)  long = t.conv4 (b, s2)  short = t.conv4 (x, s1)
        y = Add (long, short)  other = Relu (x) }"""
    fused = []
    for out in ("other", "long"):
        (found,) = residuals(Graph(build(text.replace("OUT", out))))
        assert found.conv is not None
        fused.append(found.conv.tensor)
    assert fused == ["long", "short"]


def test_a_block_is_a_convolution_with_what_fuses_with_it() -> None:
    """An activation of several nodes, also with pairs inside; the residual Add and the activation after it; not a
    MaxPool, nor an activation whose input another node reads."""
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] z) {
        a = t.conv4 (x, s1)  p = t.pair (a, s2)  b = Sigmoid (p)  c = Mul (p, b)
        d = t.conv4 (c, s1)  skip = t.pair (c, s1)  e = Add (d, skip)  r = t.pair (e, s2)  f = Relu (r)
        m = MaxPool <kernel_shape = [1, 1]> (f)  g = t.conv4 (m, s1)  h = Relu (g)  y = Add (g, m)  z = Identity (h) }"""
    found = owners(Graph(build(text)))
    assert {name: found.get(name) for name in "abcdefmghz"} == {
        **dict.fromkeys("abc", "a"),
        **dict.fromkeys("def", "d"),
        "m": None,
        "g": "g",
        "h": None,
        "z": None,
    }

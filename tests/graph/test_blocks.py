"""Residual Adds: which operand fuses."""

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

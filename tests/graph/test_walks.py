"""Walks up and down a graph: nearest first, each node once, through what the caller allows."""

import onnx

from qdqgraph.rulekit import Graph, consumers, downstream, is_pair, upstream
from tests.support.models import build


def diamond() -> Graph:
    return Graph(
        build("""g (float[1,4,8,8] x, float[1,4,8,8] t) => (float[1,4,8,8] y, float[1,4,8,8] v) <float c = {2}> {
        a = Relu (x) b = Exp (a) d = Neg (a) e = Add (b, d) k = Abs (c) f = Mul (e, k) p = t.pair (f, s1)
        y = Transpose <perm = [0, 1, 3, 2]> (p) v = Sigmoid (t) }""")
    )


def ops(nodes: object) -> list[str]:
    return [node.op for node in nodes]  # type: ignore[attr-defined]


def test_upstream_is_nearest_first_each_once_without_constants() -> None:
    assert ops(upstream(diamond(), "f")) == ["Mul", "Add", "Exp", "Neg", "Relu"]
    assert ops(upstream(diamond(), "x")) == ops(upstream(diamond(), "k")) == []


def test_downstream_is_nearest_first_each_once() -> None:
    found = ops(downstream(diamond(), "a"))
    assert found == ["Exp", "Neg", "Add", "Mul", "QuantizeLinear", "DequantizeLinear", "Transpose"]


def test_a_walk_ends_after_nodes_that_it_may_not_pass() -> None:
    assert ops(upstream(diamond(), "y", through=lambda node: is_pair(node) or node.op == "Transpose")) == [
        "Transpose", "DequantizeLinear", "QuantizeLinear", "Mul"]  # fmt: skip
    assert ops(downstream(diamond(), "a", through=lambda node: node.op == "Exp")) == ["Exp", "Neg", "Add"]


def test_consumers_are_reached_through_pairs_and_data_movement() -> None:
    graph = Graph(
        build("""g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,8,8,8] v) { a = Relu (x) p = t.pair (a, s1)
        b = Transpose <perm = [0, 1, 3, 2]> (p) y = Exp (b) v = Concat <axis = 1> (a, b) w = Neg (v) }""")
    )
    assert [(r.node.op, r.index) for r in consumers(graph, "a")] == [("Neg", 0), ("Exp", 0)]
    assert [r.key for r in consumers(graph, "y")] == []


def test_a_subgraph_that_captures_a_tensor_reads_it() -> None:
    graph = Graph(
        onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (bool c, float[2] x) => (float[2] y) { a = Relu (x)
        y = If (c) <then_branch = t () => (float[2] o) { o = Neg (a) }, else_branch = e () => (float[2] u) { u = Exp (a) }> }""")
    )
    assert ops(downstream(graph, "x")) == ["Relu", "If"]
    assert {(r.node.op, r.index) for r in consumers(graph, "a")} == {("If", -1)}

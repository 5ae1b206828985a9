"""What a graph says of its tensors: which are constant, which Adds are residuals."""

import weakref

import numpy as np

from qdqgraph.graph.constants import SMALL, keep_recent
from qdqgraph.graph.pair import Pairs
from qdqgraph.rulekit import Graph, key, pairs, residuals, sites
from qdqgraph.targets.target import Target
from tests.support.models import build


def test_a_broadcast_add_is_no_residual_also_with_a_dynamic_batch() -> None:
    text = """g (float[N,4,8,8] x) => (float[N,4,8,8] y) {
        a = Relu (x)  c = t.conv4 (a, s1)  m = GlobalAveragePool (a)  b = Add (c, m)  y = t.conv4 (b, s2) }"""
    assert not residuals(Graph(build(text)))


def test_a_part_of_a_constant_is_constant_where_its_ends_are() -> None:
    text = """g (float[2,4] x, int64[1] from) => (float[2,4] y, float[N,4] v) <
            float[4,4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, int64[2] sizes = {2, 2},
            int64[1] zero = {0}, int64[1] two = {2}> {
        a, b = Split <axis = 0> (w, sizes)  c = Slice (a, zero, two)  s = Slice (w, zero, two)
        y = Sum (x, a, b, c, s)  v = Slice (w, from, two)  p, q = Split <axis = 1> (x, sizes) }"""
    graph = Graph(build(text))
    assert all(graph.is_constant(t) for t in "abcs")
    assert not any(graph.is_constant(t) for t in "vpqxy")


def test_a_tensor_beyond_every_memory_has_no_size() -> None:
    side = 2**40
    graph = Graph(build(f"g (float[1,{side},{side}] x, float[1,N] v) => (float[1,{side},{side}] y) {{ y = Relu (x) }}"))
    assert graph.shape("x") == (1, side, side) and graph.elements("x") == graph.elements("v") == 0


def test_tables_that_are_freed_are_made_again() -> None:
    graph = Graph(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"))

    def said() -> list[object]:
        return [[key(r.node) for r in graph.readers("x")], [p.site for p in pairs(graph)], dict(graph.depth)]

    before, table = said(), pairs(graph)
    graph.forget()
    assert said() == before and pairs(graph) is not table


def test_nodes_that_are_freed_are_read_again_also_by_other_views() -> None:
    graph = Graph(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"))

    def said(view: Graph) -> list[object]:
        nodes = [(n.op, view.position(n), view.proto(n).name, [t.name for t in n.inputs]) for n in view.nodes()]
        return [nodes, [key(r.node) for r in view.readers("x")], [p.site for p in pairs(view)], view.casts]

    before, freed = said(graph), weakref.ref(graph.gs)
    graph.release()
    assert freed() is None
    other = graph.aimed_at(Target.named("trt-8.6"))
    assert said(other) == said(graph) == before
    assert other.nodes()[0] is graph.nodes()[0]


def test_tables_of_some_functions_can_be_kept() -> None:
    graph = Graph(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"))
    kept, made = pairs(graph), sites(graph)
    graph.keep(Pairs)
    assert pairs(graph) is kept and sites(graph) is not made


def test_of_the_larger_computed_constants_the_last_is_kept() -> None:
    known = {"small": np.zeros(1)}
    first = keep_recent(known, "", "a", np.zeros(SMALL + 1))
    assert keep_recent(known, first, "small", np.zeros(1)) == "a"
    assert keep_recent(known, first, "b", np.ones(SMALL + 1)) == "b" and set(known) == {"small", "b"}

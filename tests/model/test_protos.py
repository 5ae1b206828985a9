"""`refill` gives a field any items in any order; `reads` and `rename_inputs` know what subgraphs read from outside."""

from __future__ import annotations

import random

import onnx
import pytest
from onnx import helper

from qdqgraph.model.protos import reads, refill, rename_inputs


def graph(nodes: int) -> onnx.GraphProto:
    made = [helper.make_node("Relu", [f"x{i}"], [f"y{i}"], doc_string="d" * i) for i in range(nodes)]
    return helper.make_graph(made, "g", [], [])


@pytest.mark.parametrize("seed", range(50))
def test_a_field_gets_these_items_in_this_order(seed: int) -> None:
    draw = random.Random(seed)
    mine, other = graph(draw.randint(1, 12)), graph(3)
    items = draw.choices([*mine.node, *other.node, helper.make_node("Abs", ["a"], ["b"])], k=draw.randint(0, 20))
    expected, others = [item.SerializeToString() for item in items], other.SerializeToString()
    refill(mine.node, items)
    assert [node.SerializeToString() for node in mine.node] == expected
    assert other.SerializeToString() == others
    assert onnx.GraphProto.FromString(mine.SerializeToString()) == mine


def test_items_that_stay_are_not_copied() -> None:
    mine = graph(3)
    first, _, last = kept = list(mine.node)
    refill(mine.node, (node for node in (last, first)))
    assert [node is known for node, known in zip(mine.node, (kept[2], kept[0]), strict=True)] == [True, True]


LOOP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[4] x, float[4] u, int64 n, bool c) => (float[4] y) {
    y = Loop (n, c, x) <body = b (int64 i, bool c, float[4] x) => (bool d, float[4] z) {
        d = Identity (c) r = If (c) <then_branch = t () => (float[4] p) { p = Add (x, u) },
                                     else_branch = e () => (float[4] q) { q = Identity (u) }>
        z = Identity (r) }> }"""
"""The body has its own `x` and `c`, and reads `u` from outside."""


def test_what_a_subgraph_declares_or_computes_is_not_read_from_outside() -> None:
    node = onnx.parser.parse_model(LOOP).graph.node[0]
    assert reads(node) == ["n", "c", "x", "u", "u"]


def test_a_subgraph_reads_a_renamed_tensor_and_keeps_its_own_of_that_name() -> None:
    model = onnx.parser.parse_model(LOOP)
    node = model.graph.node[0]
    rename_inputs(node, {"x": "x2", "u": "u2"})
    for info, name in zip(model.graph.input, ("x2", "u2"), strict=False):
        info.name = name
    assert reads(node) == ["n", "c", "x2", "u2", "u2"]
    onnx.checker.check_model(model, full_check=True)
    assert [inner.name for inner in node.attribute[0].g.input] == ["i", "c", "x"]

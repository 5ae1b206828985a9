"""`refill` gives a field any items in any order, and keeps those that it has."""

from __future__ import annotations

import random

import onnx
import pytest
from onnx import helper

from qdqgraph.model.protos import refill


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

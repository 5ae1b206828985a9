"""Damaged models are refused, each with one sentence that names the damage."""

from collections.abc import Callable

import onnx
import pytest

import qdqgraph
from tests.support.models import build

X = "float[1,4,8,8] x"


def damaged(change: Callable[[onnx.GraphProto], object]) -> onnx.ModelProto:
    model = build(f"g ({X}) => (float[1,4,8,8] y) {{ d = t.pair (x, s1) a = Relu (d) y = Sigmoid (a) }}")
    change(model.graph)
    return model


def crossed(graph: onnx.GraphProto) -> None:
    next(n for n in graph.node if n.output[0] == "a").input[0] = "y"


def cut(graph: onnx.GraphProto) -> None:
    tensor = next(t for t in graph.initializer if t.name == "s1")
    tensor.ClearField("float_data")
    tensor.raw_data = b"\0"


@pytest.mark.parametrize(
    "change, said",
    [
        (crossed, "the graph has a cycle: ('a' -> 'y' -> 'a'|'y' -> 'a' -> 'y')"),
        (lambda g: setattr(g.node[-1], "op_type", ""), "has no operator: the file is damaged"),
        (lambda g: g.node[-1].output.__setitem__(0, "a"), "tensor 'a' has two producers; ONNX allows one"),
        (lambda g: g.node[-1].input.__setitem__(0, "nowhere"), "reads 'nowhere', which has no producer"),
        (cut, "initializer 's1' needs 4 bytes and has 1: the file is damaged"),
    ],
    ids=["cycle", "no operator", "duplicate output", "no producer", "truncated"],
)
def test_a_damaged_graph_is_refused(change: Callable[[onnx.GraphProto], object], said: str) -> None:
    with pytest.raises(qdqgraph.ModelError, match=said):
        qdqgraph.check(damaged(change))


def test_nodes_out_of_order_are_not_a_cycle() -> None:
    model = build(f"g ({X}) => (float[1,4,8,8] y) {{ a = Relu (x) y = t.conv4 (a, s1) }}")
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    assert not qdqgraph.check(model)

"""No call returns or writes a damaged result: what a repair changed is checked, in the order of the nodes as well."""

from collections.abc import Callable

import onnx
import pytest

from qdqgraph.api.soundness import refuse_unsound
from qdqgraph.errors import RepairError
from tests.support.models import build


def cut(graph: onnx.GraphProto) -> None:
    del graph.node[-1].input[:]


def twice(graph: onnx.GraphProto) -> None:
    graph.node[-1].attribute.extend([onnx.helper.make_attribute("alpha", 0.5)] * 2)


def unknown(graph: onnx.GraphProto) -> None:
    graph.node[-1].input[0] = "nothing"


def reversed_nodes(graph: onnx.GraphProto) -> None:
    nodes = [*graph.node][::-1]
    del graph.node[:]
    graph.node.extend(nodes)


def original() -> onnx.ModelProto:
    return build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { d = t.pair (x, s1) a = Relu (d) y = Sigmoid (a) }")


def changed(change: Callable[[onnx.GraphProto], None]) -> onnx.ModelProto:
    model = original()
    change(model.graph)
    return model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut, "has no input 0"),
        (twice, "has the attribute alpha twice"),
        (unknown, "reads 'nothing', which has no producer"),
        (reversed_nodes, "before the node that produces it"),
    ],
)
def test_a_node_that_the_original_does_not_have_so_is_checked(
    change: Callable[[onnx.GraphProto], None], said: str
) -> None:
    with pytest.raises(RepairError, match=said):
        refuse_unsound(original(), changed(change))


def test_an_order_that_the_original_has_too_is_kept() -> None:
    before, after = changed(reversed_nodes), changed(reversed_nodes)
    after.graph.doc_string = "a change"
    refuse_unsound(before, after)

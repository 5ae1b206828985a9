"""No call returns or writes a damaged result: what a repair changed is checked, in the order of the nodes as well."""

from collections.abc import Callable

import onnx
import onnx.parser
import pytest

import qdqgraph
from qdqgraph.api.soundness import refuse_unsound
from qdqgraph.errors import ModelError, RepairError
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


RESIZED = """<ir_version: 8, opset_import: ["" : 21]> g (float[1,1,4,4] x) => (float[1,1,8,8] y) <
    float s = {0.1}, int8 z = {0}, int8[4] f = {2, 2, 4, 4}, float fs = {0.5}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) k = DequantizeLinear (f, fs)
    y = Resize <mode = "nearest"> (d, "", k) }"""


def test_a_false_shape_behind_an_argument_that_nodes_compute_is_the_files() -> None:
    """onnx infers the shape only once the scales of the Resize are a constant."""
    model = onnx.parser.parse_model(RESIZED.replace("{2, 2, 4, 4}", "{2, 2, 2, 2}"))
    onnx.checker.check_model(model, full_check=True)
    why = "declares 'y' otherwise than its operators compute it.*operators compute .*: correct the declaration"
    with pytest.raises(ModelError, match=why):
        qdqgraph.fix(model)
    assert qdqgraph.fix(onnx.parser.parse_model(RESIZED)).applied


def test_a_false_shape_that_only_the_result_has_is_a_defect() -> None:
    after = original()
    after.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(RepairError, match=r"onnx rejects the result at 'y'.*please report it"):
        refuse_unsound(original(), after)

"""`imported` makes the graph that onnx-graphsurgeon's importer makes."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx_graphsurgeon.logger import G_LOGGER

import qdqgraph
from qdqgraph.graph.graph import Graph, key
from qdqgraph.graph.imported import Node, imported
from tests.support import cases

EVERY_ATTRIBUTE = """
<ir_version: 8, opset_import: ["" : 17, "acme" : 1], producer_name: "me", producer_version: "1">
g (float[1,4] x, float[4] w) => (float[1,4] y, float t)
<float[4] w = {1, 2, 3, 4}, float[1,4] a>
{
    a = acme.Op <f = 0.5, i = 3, s = "text", fs = [1.0, 2.0], is = [1, 2], ss = ["a", "b"], t = float[2] {1, 2}> (x, "", w)
    t = Constant <value = float {2.0}> ()
    b, "" = acme.Split (a, a)
    y = Add (b, w)
}"""
"""Attributes of every type, inputs and outputs left out, a declared tensor, and an initializer that is also an input."""
BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
g (bool c, float[1] x) => (float[1] y)
{
    y = If (c) <then_branch = one () => (float[1] p) { p = Relu (x) }, else_branch = two () => (float[1] r) { r = Neg (x) }>
}"""


def described(graph: gs.Graph) -> list[Any]:
    """Everything that a graph says of itself, of its nodes and of its tensors."""
    own = (graph.name, graph.doc_string, graph.opset, graph.producer_name, graph.producer_version)
    found: list[Any] = [own, *(tensor(t) for t in (*graph.inputs, *graph.outputs))]
    for node in graph.nodes:
        attributes = {name: value(v) for name, v in node.attrs.items()}
        ends = [[tensor(t) for t in each] for each in (node.inputs, node.outputs)]
        found.append((node.op, node.name, node.domain, attributes, *ends))
    return found


def tensor(t: gs.Tensor) -> Any:
    """A tensor with the outputs of the nodes around it."""
    around = [[[o.name for o in n.outputs] for n in nodes] for nodes in (t.inputs, t.outputs)]
    own = (t.values.tobytes(), t.data_location) if isinstance(t, gs.Constant) else (t.type,)
    return type(t).__name__, t.name, str(t.dtype), t.shape and [*t.shape], around, own


def value(v: Any) -> Any:
    return tensor(v) if isinstance(v, gs.Tensor) else described(v) if isinstance(v, gs.Graph) else v


@pytest.mark.parametrize("path", sorted(cases.FOLDER.glob("*.onnxtxt")), ids=lambda path: path.stem)
def test_every_case_is_imported_as_by_its_own_importer(path: object) -> None:
    model = cases.read(path).model  # type: ignore[arg-type]
    with G_LOGGER.suppress():
        assert described(imported(model)) == described(gs.import_onnx(model))


@pytest.mark.parametrize("text", [EVERY_ATTRIBUTE, BRANCHES], ids=["attributes", "subgraphs"])
def test_attributes_and_subgraphs(text: str) -> None:
    model = onnx.parser.parse_model(text)
    assert described(imported(model)) == described(gs.import_onnx(model))


def test_a_tensor_that_is_declared_twice_and_external_data() -> None:
    model = onnx.parser.parse_model(EVERY_ATTRIBUTE)
    model.graph.value_info.add(name="b")
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, ["n", 4]))
    model.graph.initializer[0].data_location = onnx.TensorProto.DEFAULT
    assert described(imported(model)) == described(gs.import_onnx(model))


def test_lists_of_inputs_and_outputs_are_synchronized() -> None:
    graph = imported(onnx.parser.parse_model(EVERY_ATTRIBUTE))
    op, constant, split, add = graph.nodes
    assert isinstance(add, Node) and add.i() is split and split.o() is add
    add.inputs[0] = constant.outputs[0]
    assert constant.outputs[0].outputs == [add] and split.outputs[0].outputs == []
    add.inputs = [op.outputs[0]]
    assert op.outputs[0].outputs == [split, split, add]


def test_nodes_and_tensors_have_no_dictionaries_of_their_own() -> None:
    graph = imported(onnx.parser.parse_model(EVERY_ATTRIBUTE))
    add = graph.nodes[-1]
    for each in (add, add.inputs, add.outputs, add.inputs[0]):
        assert vars(each) == {}
    assert np.array_equal(add.inputs[1].values, [1, 2, 3, 4])


@pytest.mark.parametrize("functions", ["", '<domain: "other", opset_import: ["" : 17]> F (a) => (b) { b = Relu (a) }'])
def test_an_operator_of_another_domain_is_not_the_one_of_onnx_with_its_name(functions: str) -> None:
    """ONNX Runtime's operators, and Q and DQ of any domain, are."""
    graph = Graph(
        onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17, "acme" : 1, "ai.onnx" : 17, "com.microsoft" : 1, "other" : 1]>
        g (float[4] x) => (float[4] y) <float s = {{0.1}}>
        {{
            a = acme.Mul (x, x)
            b = acme.QuantMul (a, a)
            c = com.microsoft.Gelu (b)
            q = acme.QuantizeLinear (c, s)
            d = ai.onnx.DequantizeLinear (q, s)
            y = Mul (d, d)
        }} {functions}""")
    )
    operators = ["acme.Mul", "QuantMul", "Gelu", "QuantizeLinear", "DequantizeLinear", "Mul"]
    assert [node.op for node in graph.nodes()] == operators
    assert [key(node) for node in graph.nodes("Mul")] == ["y"] and graph.proto(graph.node("a")).op_type == "Mul"


def test_a_product_of_another_domain_does_not_end_an_integer_product() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "acme" : 1]>
        g (float[1,2] x) => (float[1,2] y) <int8[2,2] w = {1, 2, 3, 4}, int8 zw = {0}, float sw = {0.01}>
        {
            q, s, z = DynamicQuantizeLinear (x) i = MatMulInteger (q, w, z, zw) f = Cast <to = 1> (i)
            m = Mul (s, sw) y = acme.Mul (f, m)
        }""")
    (finding,) = [f for f in qdqgraph.check(model) if f.code == "QDQ411"]
    assert not finding.edits and "is not multiplied by its scales in one Mul" in finding.message

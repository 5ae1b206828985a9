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


def outside(**entries: str) -> Callable[[onnx.GraphProto], None]:
    """External data with these entries for the first initializer."""

    def change(graph: onnx.GraphProto) -> None:
        tensor = next(t for t in graph.initializer if t.name == "s1")
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for name, value in entries.items():
            tensor.external_data.add(key=name, value=value)

    return change


def referring(graph: onnx.GraphProto) -> None:
    node = next(n for n in graph.node if n.op_type == "DequantizeLinear")
    node.attribute.add(name="axis", ref_attr_name="outer", type=onnx.AttributeProto.INT)


def repeated(graph: onnx.GraphProto) -> None:
    node = next(n for n in graph.node if n.op_type == "DequantizeLinear")
    node.attribute.extend([onnx.helper.make_attribute("axis", 0), onnx.helper.make_attribute("axis", 1)])


def foreign(graph: onnx.GraphProto) -> None:
    nbits = onnx.helper.make_node("MatMulNBits", ["x", "s1", "s1"], ["m"], domain="com.microsoft", bits=[4.0])
    graph.node.append(nbits)


def scalar(name: str) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [])


def crumbs(graph: onnx.GraphProto) -> None:
    tensor = next(t for t in graph.initializer if t.name == "s1")
    tensor.ClearField("float_data")
    tensor.data_type = onnx.TensorProto.INT2


@pytest.mark.parametrize(
    "change, said",
    [
        (crossed, "the graph has a cycle: ('a' -> 'y' -> 'a'|'y' -> 'a' -> 'y')"),
        (lambda g: setattr(g.node[-1], "op_type", ""), "has no operator: the file is damaged"),
        (lambda g: g.node[-1].output.__setitem__(0, "a"), "tensor 'a' has two producers; ONNX allows one"),
        (
            lambda g: g.node[-1].output.__setitem__(0, "x"),
            "'x' is the output of a node, and also an input or initializer",
        ),
        (lambda g: g.node[-1].output.__setitem__(0, "s1"), "'s1' is the output of a node, and also an input or init"),
        (lambda g: g.output[0].CopyFrom(scalar("x")), "'x' is an input and an output of the graph, and they are decl"),
        (lambda g: g.node[-1].input.__setitem__(0, "nowhere"), "reads 'nowhere', which has no producer"),
        (cut, "initializer 's1' needs 4 bytes and has 1: the file is damaged"),
        (crumbs, "initializer 's1' needs 1 elements and has 0: the file is damaged"),
        (outside(), "external data of 's1' have no location: the file is damaged"),
        (lambda g: [outside(location=n)(g) for n in "ab"], "external data of 's1' have the entry 'location' twice"),
        (outside(location="w.bin", length="-1"), "external data of 's1': length '-1' is not an integer of 0 or more"),
        (referring, "attribute axis that refers to an attribute of a function, and is in none: the file is damaged"),
        (repeated, "has the attribute axis twice: the file is damaged"),
        (lambda g: g.node[-1].input.append("x"), "has 2 inputs, and the operator at most 1: the file is damaged"),
        (foreign, "has the attribute bits of type FLOATS, and it is INT: the file is damaged"),
    ],
    ids=[
        *("cycle", "no operator", "duplicate output", "output is an input", "output is an initializer"),
        *("output declared otherwise than as input", "no producer", "truncated", "2 bits without data"),
        *(
            "external without a file",
            "external in two files",
            "external of negative length",
            "reference outside a function",
            "attribute twice",
            "more inputs than any version has",
        ),
        "attribute of ONNX Runtime",
    ],
)
def test_a_damaged_graph_is_refused(change: Callable[[onnx.GraphProto], object], said: str) -> None:
    with pytest.raises(qdqgraph.ModelError, match=said):
        qdqgraph.check(damaged(change))


def test_inputs_that_are_left_out_are_a_finding() -> None:
    (finding,) = qdqgraph.check(damaged(lambda g: g.node[-1].input.extend(["", ""])))
    assert finding.code == "QDQ420" and "has input size 3" in finding.message


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_two_versions_of_the_opset_are_refused_and_one_twice_is_not(domain: str) -> None:
    model = build(f"g ({X}) => (float[1,4,8,8] y) {{ y = t.conv4 (x, s1) }}")
    opset = model.opset_import[0].version
    again = model.opset_import.add(domain=domain, version=opset)
    assert not qdqgraph.check(model)
    again.version = 11
    with pytest.raises(qdqgraph.ModelError, match=f"the opset of ONNX in the versions 11 and {opset}: import one"):
        qdqgraph.check(model)


BRANCHES = """g (float[1,4,8,8] x, bool c) => (float[1,4,8,8] y) { d = t.pair (x, s1)
    y = If (c) <then_branch = t () => (float[1,4,8,8] p) { p = Abs (d) },
                else_branch = e () => (float[1,4,8,8] q) { q = Relu (d) }> }"""


def branch(model: onnx.ModelProto) -> onnx.GraphProto:
    return model.graph.node[-1].attribute[0].g


def test_a_subgraph_that_reads_the_output_of_its_node_is_a_cycle() -> None:
    model = build(BRANCHES)
    branch(model).node[0].input[0] = "y"
    with pytest.raises(qdqgraph.ModelError, match="the graph has a cycle: 'y' -> 'y'"):
        qdqgraph.check(model)


def test_a_subgraph_may_compute_a_tensor_with_the_name_of_its_nodes_output() -> None:
    """onnx.checker and ONNX Runtime accept it: the branch hides the other one."""
    model = build(BRANCHES)
    branch(model).node[0].output[0] = branch(model).output[0].name = "y"
    assert not qdqgraph.check(model)


def test_nodes_out_of_order_are_not_a_cycle() -> None:
    model = build(f"g ({X}) => (float[1,4,8,8] y) {{ a = Relu (x) y = t.conv4 (a, s1) }}")
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    assert not qdqgraph.check(model)


@pytest.mark.parametrize("name", ["entered", "between", "leaving", "scale_of_it"])
def test_a_name_that_is_not_utf8_is_refused_wherever_it_is(name: str) -> None:
    """Of an input, a tensor, an output and an initializer; protobuf does not check texts when it reads a file."""
    text = """g (float[1,4,8,8] entered) => (float[1,4,8,8] leaving) <float scale_of_it = {0.1}> {
        between = Relu (entered) leaving = t.conv4 (between, scale_of_it) }"""
    content = build(text).SerializeToString().replace(name.encode(), b"\xff" * len(name))
    with pytest.raises(qdqgraph.ModelError, match=r"a text in the model is not UTF-8 \(b'.xff"):
        qdqgraph.check(onnx.ModelProto.FromString(content))
    with pytest.raises(qdqgraph.ModelError, match="a text in the model is not UTF-8"):
        qdqgraph.fix(onnx.ModelProto.FromString(content), only=["*"])


def test_an_attribute_that_an_operator_does_not_have_means_nothing() -> None:
    model = build(f"g ({X}) => (float[1,4,8,8] y) {{ d = t.pair (x, s1) y = MatMul (d, d) }}")
    product = next(n for n in model.graph.node if n.op_type == "MatMul")
    product.attribute.append(onnx.helper.make_attribute("group", [0, 1]))
    assert qdqgraph.forecast(model).layers


def test_zero_points_of_another_number_than_the_scales_are_named() -> None:
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y)
        <int8[4,4,1,1] w = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}, float[4] s = {0.1,0.1,0.1,0.1}, int8[4] z = {0,0,0,0}> {
        k = DequantizeLinear <axis = 0> (w, s, z) y = Conv (x, k) }"""
    model = build(text)
    zero = next(t for t in model.graph.initializer if t.name == "z")
    zero.CopyFrom(onnx.helper.make_tensor("z", onnx.TensorProto.INT8, [16], range(16)))
    assert "'w' has 16 zero-points and 4 scales" in " ".join(f.message for f in qdqgraph.check(model))


def test_a_scale_of_two_bits_is_no_scale() -> None:
    model = build(f"g ({X}) => (float[1,4,8,8] y) {{ y = t.pair (x, s1) }}")
    tensor = next(t for t in model.graph.initializer if t.name == "s1")
    tensor.CopyFrom(onnx.TensorProto(name="s1", data_type=onnx.TensorProto.INT2, int32_data=[1]))
    with pytest.raises(qdqgraph.ModelError, match="has the type int2; scales are floating-point numbers"):
        qdqgraph.check(model)

"""Normalizations written as several nodes: which nodes belong to one, whatever the exporter's sequence of nodes."""

import onnx
import pytest

from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.rulekit import Graph, normalizations
from qdqgraph.targets.target import Target
from tests.support.normalizations import CONSTANTS, FORMS


def read(body: str) -> Graph:
    head = '<ir_version: 8, opset_import: ["" : 17]>\ng (float[1,4,8,8] x) => (float y)'
    model = onnx.parser.parse_model(f"{head} <{CONSTANTS}> {{ a = Neg (x)  {body} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return Graph(model)


@pytest.mark.parametrize("name", FORMS)
def test_a_normalization_is_from_its_first_statistic_to_what_recombines_it(name: str) -> None:
    body, expected = FORMS[name]
    found = normalizations(read(body)).nodes
    assert sorted(key[0] for key in found) == sorted(expected), found


def test_what_enters_and_leaves_is_not_inside() -> None:
    body = FORMS["scale and bias are part of it"][0].replace("y = Add", "o = Add") + "  y = Relu (o)"
    graph = read(body)
    norm = normalizations(graph)
    tensors = ("x", "a", "m", "c", "p", "v", "e", "r", "n", "k", "o", "y")
    assert [name for name in tensors if norm.encloses(name)] == ["m", "c", "p", "v", "e", "r", "n", "k"]


def test_a_statistic_that_another_operator_reads_leaves_the_normalization() -> None:
    graph = read(FORMS["LayerNormalization, power and quotient"][0].replace("y = Div", "o = Div") + " y = Max (o, m)")
    norm = normalizations(graph)
    assert not norm.encloses("m")
    assert [norm.inside(reader) for reader in graph.readers("m")] == [True, False]


def test_two_in_a_row_are_two() -> None:
    """What the first produces and the second reads is the result of one and the input of the other."""
    first = FORMS["RMSNorm"][0].replace("y = Div", "k = Div")
    second = "u = Pow (k, two)  n = ReduceMean <axes = [-1]> (u)  o = Sqrt (n)  y = Div (k, o)"
    norm = normalizations(read(f"{first}  {second}"))
    assert [sorted(node.outputs[0].name for node in group) for group in norm.groups] == [list("ekprv"), list("nouy")]
    assert not norm.encloses("k") and norm.encloses("n")


@pytest.mark.parametrize("name", ["scale and bias are part of it", "pairs inside", "softmax"])
def test_the_forecast_takes_it_for_one_kernel(name: str) -> None:
    """Measured on TensorRT-RTX 1.7.1: pairs inside change neither the kernels nor the bytes."""
    graph = read(FORMS[name][0])
    classic = forecast(graph.aimed_at(Target.named("trt-8.6")), "").layers
    assert [layer.kind for layer in classic] == ["PointWise", "Normalization"]
    (together,) = forecast(graph, "").layers
    assert set(together.nodes) == {n for layer in classic for n in layer.nodes}

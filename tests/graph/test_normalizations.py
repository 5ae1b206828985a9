"""Normalizations written as several nodes: which nodes belong to one, whatever the exporter's sequence of nodes."""

import onnx
import pytest

from qdqgraph.rulekit import Graph, normalizations
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

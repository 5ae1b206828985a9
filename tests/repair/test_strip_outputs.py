"""`strip` gives outputs of the graph that a pair produces the values before the pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.errors import ModelError
from qdqgraph.graph.graph import Graph
from qdqgraph.graph.pair import pairs
from qdqgraph.model.runtime import Session

DETECTOR = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4,8] x) => (float[1,8,8] y)
<float s = {2.5}, int8 z = {0}>
{
    scores = Sigmoid (x)
    boxes = Mul (x, x)
    both = Concat <axis = 1> (boxes, scores)
    q = QuantizeLinear (both, s, z)
    y = DequantizeLinear (q, s, z)
}"""
READ_AGAIN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[8] x) => (float[8] y, float[8] v) <float s = {2.5}, int8 z = {0}>
{
    q = QuantizeLinear (x, s, z)
    y = DequantizeLinear (q, s, z)
    v = Relu (y)
}"""


@pytest.mark.parametrize("chosen", [{"nodes": ["y"]}, {"nodes": ["?"]}, {"select": ["QDQ106"]}])
def test_scores_that_the_pair_of_the_output_lost_are_there_again(chosen: dict[str, list[str]], tmp_path: Path) -> None:
    model = onnx.parser.parse_model(DETECTOR)
    result = qdqgraph.strip(model, **chosen)  # type: ignore[arg-type]
    assert not len(pairs(Graph(result.model)))
    x = np.linspace(-3, 3, 32, dtype=np.float32).reshape(1, 4, 8)
    (before,), (after,) = (Session(m, tmp_path).run([{"x": x}])[0] for m in (model, result.model))
    assert not before[:, 4:].any()
    assert np.allclose(after[:, 4:], 1 / (1 + np.exp(-x)), atol=1e-6)


def test_an_output_that_a_node_reads_as_well_keeps_its_pair() -> None:
    model = onnx.parser.parse_model(READ_AGAIN)
    assert qdqgraph.strip(model, ["y"]).model == model
    assert len(pairs(Graph(qdqgraph.strip(model, ["v"]).model))) == 1


def test_an_output_without_a_pair_is_no_place_to_strip() -> None:
    with pytest.raises(ModelError, match="no node matches 'x'"):
        qdqgraph.strip(onnx.parser.parse_model(DETECTOR), ["x"])

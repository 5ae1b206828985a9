"""`strip` gives outputs of the graph that a pair produces the values before the pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.cli import main
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


def test_an_output_that_a_node_reads_as_well_has_the_float_values_and_the_node_keeps_the_pair(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(READ_AGAIN)
    result = qdqgraph.strip(model, ["y"])
    graph = Graph(result.model)
    assert pairs(graph).made(graph.node("v").inputs[0].name) is not None and graph.node("y").op == "Identity"
    x = np.linspace(-2, 2, 8, dtype=np.float32)
    (before, after) = (Session(m, tmp_path).run([{"x": x}])[0] for m in (model, result.model))
    assert np.array_equal(after[0], x) and not np.array_equal(before[0], x) and np.array_equal(after[1], before[1])
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()


def test_with_the_node_that_reads_it_no_pair_remains() -> None:
    model = onnx.parser.parse_model(READ_AGAIN)
    assert len(pairs(Graph(qdqgraph.strip(model, ["v"]).model))) == 1
    assert not len(pairs(Graph(qdqgraph.strip(model, ["v", "y"]).model)))


def test_an_output_of_another_type_is_a_cast() -> None:
    text = """<ir_version: 10, opset_import: ["" : 23]>
        g (float[8] x) => (float16[8] y) <float s = {2.5}, int8 z = {0}>
        { q = QuantizeLinear (x, s, z) y = DequantizeLinear <output_dtype = 10> (q, s, z) }"""
    stripped = qdqgraph.strip(onnx.parser.parse_model(text), ["y"]).model
    onnx.checker.check_model(stripped, full_check=True)
    assert [node.op_type for node in stripped.graph.node] == ["Cast"]


IN_SUBGRAPH = """<ir_version: 8, opset_import: ["" : 17]>
g (float[8] x, bool on) => (float[8] y, float[8] v) <float s = {2.5}, int8 z = {0}>
{
    q = QuantizeLinear (x, s, z)
    y = DequantizeLinear (q, s, z)
    v = If (on) <then_branch = a () => (float[8] t) { t = Relu (y) }, else_branch = b () => (float[8] e) { e = Neg (y) }>
}"""


def test_an_output_that_a_subgraph_reads_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(onnx.parser.parse_model(IN_SUBGRAPH), tmp_path / "m.onnx")
    assert main(["strip", str(tmp_path / "m.onnx"), "--nodes", "y", "-o", str(tmp_path / "o.onnx")]) == 2
    said = (
        "nothing can be stripped: the graph's output 'y' is the output of a pair; a subgraph of If(v) reads it as well"
    )
    assert said in capsys.readouterr().err and not (tmp_path / "o.onnx").exists()


def test_beside_layers_that_are_stripped_it_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.parser.parse_model(
        IN_SUBGRAPH.replace("float[8] v)", "float[8] v, float[8] w)").replace("\n}", "\n    w = Relu (y)\n}")
    )
    onnx.save(model, tmp_path / "m.onnx")
    assert main(["strip", str(tmp_path / "m.onnx"), "--nodes", "w", "y", "-o", str(tmp_path / "o.onnx")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "input 0 of Relu(w) is 'y', the output of a pair; it now has the float values" in printed
    assert "the graph's output 'y' is the output of a pair; it stays: a subgraph of If(v) reads it as well" in printed


def test_an_output_without_a_pair_is_no_place_to_strip() -> None:
    with pytest.raises(ModelError, match="no node matches 'x'"):
        qdqgraph.strip(onnx.parser.parse_model(DETECTOR), ["x"])


def test_a_node_reads_integers_that_were_quantized_as_real_numbers() -> None:
    """QuantizeLinear accepts INT32; the node that reads the pair does not."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (int32[4] x) => (float[4] y) <float s = {0.1}, int8 z = {0}> {
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Sigmoid (d) }""")
    (cast, sigmoid) = qdqgraph.strip(model, nodes=["y"]).model.graph.node
    assert (cast.op_type, [*cast.input], sigmoid.op_type, [*sigmoid.input]) == (
        "Cast",
        ["x"],
        "Sigmoid",
        [*cast.output],
    )

"""Outputs of ONNX Runtime that are not tensors of numbers, as arrays that can be compared."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.model import runtime

pytest.importorskip("onnxruntime")

EVERY_KIND = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 1]>
g (float[1,2] x) => (float[1,2] y, string[2] t, seq(float[1,2]) alike, seq(float[N,M]) ragged, seq(map(int64, float)) m)
<string[2] words = {"a", "bc"}, float s = {0.5}, int8 z = {0}, float[1,2] o = {3, 4}, float[1,1] p = {5}>
{
    q = QuantizeLinear (x, s, z)
    y = DequantizeLinear (q, s, z)
    t = Identity (words)
    alike = SequenceConstruct (y, o)
    ragged = SequenceConstruct (y, p)
    m = ai.onnx.ml.ZipMap <classlabels_int64s = [7, 9]> (y)
}"""


def test_every_output_is_one_array() -> None:
    model = onnx.parser.parse_model(EVERY_KIND)
    feeds = [{"x": np.array([[1, 2]], np.float32)}]
    first, second = runtime.run(model, feeds * 2, Path())
    y, texts, alike, ragged, maps = first
    assert y.tolist() == [[1, 2]] and texts.tolist() == ["a", "bc"] and texts.dtype.kind == "U"
    assert alike.tolist() == [[[1, 2]], [[3, 4]]] and ragged.tolist() == [1, 2, 5] and maps.tolist() == [[1, 2]]
    assert [a.tobytes() for a in first] == [b.tobytes() for b in second]


def test_an_empty_sequence_is_an_empty_array() -> None:
    assert runtime.array_of([]).size == runtime.array_of(None).size == 0


def test_a_network_with_such_outputs_is_compared_and_its_layers_are_ranked() -> None:
    text = EVERY_KIND.replace("float[1,1] p = {5}", "float[1,1] p = {5}, int8[2,2] w = {64, 32, 16, 8}")
    text = text.replace("y = Deq", "d = Deq").replace(
        "t = Id", "k = DequantizeLinear (w, s, z) y = MatMul (d, k) t = Id"
    )
    model = onnx.parser.parse_model(text)
    result = qdqgraph.fix(model, numerics=True)
    assert result.numbers is not None and all(found.identical for found in result.numbers.outputs.values())
    ranking = qdqgraph.sensitivity(model, data=[{"x": np.ones((1, 2), np.float32)}] * 2)
    assert ranking.units


@pytest.mark.parametrize(
    "node",
    [
        'y, "" = Split <axis = 1, num_outputs = 2> (d)',
        '"", y = Loop (n, c, d) <body = b (int64 i, bool p, float[1,2] v) => (bool o, float[1,2] r, float[1,2] w)'
        " { o = Identity (p) r = Relu (v) w = Neg (v) }>",
    ],
)
def test_an_output_that_a_node_leaves_out_does_not_end_the_process(node: str) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 18]>
        g (float[1,2] x) => (float[N,M] y) <float s = {{0.5}}, int8 z = {{0}}, int64 n = {{1}}, bool c = {{1}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) {node} }}""")
    before = model.SerializeToString()
    (values,) = runtime.run(model, [{"x": np.ones((1, 2), np.float32)}], Path())[0]
    assert values.size and model.SerializeToString() == before


@pytest.mark.parametrize("node", ['LayerNormalization (d, w, "")', 'DFT (e, "", "")'])
def test_an_empty_name_at_the_end_of_the_inputs_does_not_end_the_process(node: str) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 20]>
        g (float[1,2] x) => (float[N,M,K] y) <float s = {{0.5}}, int8 z = {{0}}, float[2] w = {{1, 1}}, int64[3] n = {{1, 2, 1}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) e = Reshape (d, n) y = {node} }}""")
    before = model.SerializeToString()
    (values,) = runtime.run(model, [{"x": np.ones((1, 2), np.float32)}], Path())[0]
    assert values.size and model.SerializeToString() == before


@pytest.mark.parametrize("operator", ["QLinearSigmoid", "QLinearLeakyRelu"])
def test_a_zero_point_that_a_node_leaves_out_does_not_end_the_process(operator: str) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[1,2] x) => (float[1,2] y) <float s = {{0.5}}, float t = {{0.01}}> {{
            q = QuantizeLinear (x, s) c = com.microsoft.{operator} (q, s, "", t) y = DequantizeLinear (c, t) }}""")
    (values,) = runtime.run(model, [{"x": np.ones((1, 2), np.float32)}], Path())[0]
    assert values.shape == (1, 2)

"""A layer as a product of matrices: rows times columns are the outputs that ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph.calibration.weights.products import LEAST_ROWS, Product
from qdqgraph.graph.graph import Graph
from qdqgraph.model.runtime import run
from qdqgraph.model.text import parse

LAYERS = {
    "Conv": ("x, w", [2, 4, 7, 6], [6, 4, 3, 3], 1),
    "Conv <pads = [1, 0, 2, 1], strides = [2, 1], dilations = [1, 2]>": ("x, w", [1, 4, 7, 8], [6, 4, 3, 2], 1),
    "Conv <group = 2, kernel_shape = [3]>": ("x, w", [1, 4, 9], [6, 2, 3], 1),
    "Conv <group = 4>": ("x, w", [1, 4, 2, 5, 5], [8, 1, 1, 2, 2], 1),
    'Conv <auto_pad = "SAME_UPPER", strides = [2, 2]>': ("x, w", [1, 2, 7, 8], [3, 2, 3, 4], 1),
    'Conv <auto_pad = "SAME_LOWER">': ("x, w", [1, 2, 7, 8], [3, 2, 4, 2], 1),
    "ConvTranspose <strides = [2, 3], pads = [1, 0, 0, 2]>": ("x, w", [1, 4, 4, 5], [4, 6, 3, 3], 1),
    "ConvTranspose <group = 2, dilations = [2, 1], output_padding = [1, 0], strides = [2, 1]>": (
        "x, w",
        [2, 4, 4, 5],
        [4, 3, 3, 2],
        1,
    ),
    "Gemm": ("x, w", [5, 4], [4, 3], 1),
    "Gemm <transA = 1, transB = 1>": ("x, w", [4, 5], [3, 4], 1),
    "MatMul": ("x, w", [2, 3, 5, 4], [4, 3], 1),
    "MatMul ": ("w, x", [2, 4, 5], [3, 4], 0),
}


def product(layer: str, inputs: str, shape: list[int], weights: list[int], index: int) -> tuple[Product, np.ndarray]:
    names = {"x": shape, "w": weights}
    given = ", ".join(f"float{names[name]} {name}" for name in inputs.split(", "))
    model = parse(f"""<ir_version: 8, opset_import: ["" : 17]> g ({given}) => (float y) {{ y = {layer} ({inputs}) }}""")
    found = Product.of(Graph(model).node("y"), index, tuple(weights))
    assert found is not None
    random = np.random.default_rng(0)
    x, w = (random.normal(size=s).astype(np.float32) for s in (shape, weights))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    ((y,),) = run(model, [{"x": x, "w": w}], Path())
    assert found.data == "x"
    columns, rows = found.columns(w), found.rows(x)
    assert columns.shape == (found.groups, found.outputs // found.groups, found.depth)
    assert np.array_equal(found.weights(columns), w)
    made = (rows @ columns.swapaxes(1, 2)).swapaxes(0, 1).reshape(rows.shape[1], -1)
    return found, np.array([np.sort(made.reshape(-1)), np.sort(np.asarray(y).reshape(-1))])


@pytest.mark.parametrize("layer", LAYERS)
def test_rows_times_columns_are_the_outputs(layer: str) -> None:
    inputs, shape, weights, index = LAYERS[layer]
    _, (made, true) = product(layer.strip(), inputs, shape, weights, index)
    np.testing.assert_allclose(made, true, rtol=1e-4, atol=1e-5)


def test_of_many_rows_a_part_is_taken_the_same_each_time() -> None:
    found, _ = product("Conv", "x, w", [1, 2, 4, 4], [3, 2, 1, 1], 1)
    large = np.random.default_rng(0).normal(size=(1, 2, 50, 60)).astype(np.float32)
    first, again, other = found.rows(large, 1), found.rows(large, 1), found.rows(large, 2)
    assert first.shape == (1, LEAST_ROWS, 2)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("text", "shape", "index"),
    [
        ("y = MatMul (x, w)", (2, 4, 3), 1),
        ("y = Gemm (w, x)", (4, 3), 0),
        ("y = ConvTranspose <output_shape = [9]> (x, w)", (4, 3, 3), 1),
        ("y = ConvTranspose <pads = [3, 3]> (x, w)", (4, 3, 3), 1),
        ("y = Add (x, w)", (4, 3), 1),
    ],
)
def test_other_layers_are_no_product(text: str, shape: tuple[int, ...], index: int) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float x, float w) => (float y) {{ {text} }}"""
    )
    assert Product.of(Graph(model).node("y"), index, shape) is None

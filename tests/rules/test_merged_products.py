"""Matrix products that read one tensor: with a scale for each channel TensorRT-RTX needs no kernel to scale the merged
product (QDQ303)."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import qdqgraph
from tests.support.engines import builds

TAILS = ("", "Relu", "Reshape")
"""What is downstream of each product; with Reshape, each product reads a Reshape of its own."""


def merged(tail: str, biased: int, products: int = 3) -> onnx.ModelProto:
    """Products of 32 x 128 activations with 128 x 64 weights of different per-tensor scales, the first ones biased."""
    random = np.random.default_rng(0)
    constants: dict[str, Any] = {"s": np.float32(0.1), "z": np.int8(0), "to": np.array([32, 128])}
    text = "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)"
    for i in range(products):
        constants[f"w{i}"] = random.integers(-127, 128, (128, 64), np.int8)
        constants[f"b{i}"] = random.normal(size=64).astype(np.float32)
        constants[f"s{i}"] = np.float32(0.01 * (i + 1))
        if tail == "Reshape":
            text += f" e{i} = Reshape (d, to) f{i} = QuantizeLinear (e{i}, s, z) g{i} = DequantizeLinear (f{i}, s, z)"
        read = f"g{i}" if tail == "Reshape" else "d"
        text += f" k{i} = DequantizeLinear (w{i}, s{i}, z) m{i} = MatMul ({read}, k{i})"
        text += f" a{i} = Add (b{i}, m{i})" if i < biased else f" a{i} = Identity (m{i})"
        text += f" y{i} = {'Relu' if tail == 'Relu' else 'Identity'} (a{i})"
    rows = "32" if tail == "Reshape" else "1,32"
    outputs = ", ".join(f"float[{rows},64] y{i}" for i in range(products))
    graph = f"g (float[1,32,128] x) => ({outputs}) {{ {text} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    return model


@pytest.mark.parametrize("tail", TAILS)
def test_the_scales_of_biased_products_of_one_tensor_are_repeated(tail: str, tmp_path: Path) -> None:
    model = merged(tail, biased=2)
    result = qdqgraph.fix(model, qdqgraph.rules(select=["QDQ303"]))
    assert [f.code for f in result.applied] == ["QDQ303"] * 3
    before, after = (builds(m, tmp_path) for m in (model, result.model))
    assert len(after) < len(before)
    assert sum(layer.bytes for layer in after) < sum(layer.bytes for layer in before)


def test_most_products_without_a_bias_keep_their_scales() -> None:
    """There TensorRT-RTX would scale the merged product by a kernel of its own."""
    assert not qdqgraph.check(merged("", biased=1), select=["QDQ303"]).findings
    assert not qdqgraph.check(merged("", biased=2, products=5), select=["QDQ303"]).findings
    assert len(qdqgraph.check(merged("", biased=2, products=4), select=["QDQ303"]).findings) == 4

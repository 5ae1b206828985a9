"""Types and shapes of tensors, in one pass over the network."""

from __future__ import annotations

import onnx

from qdqgraph.model.shapes import infer


def test_the_type_of_a_tensor_of_unknown_rank_is_known() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17]>'
        "g (float[N,8] x, int64[R] shape) => (float y) { r = Reshape (x, shape)  y = Relu (r) }"
    )
    found = infer(model)
    assert found["r"] == (onnx.TensorProto.FLOAT, None)

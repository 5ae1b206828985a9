"""Strict inference in parts says what it says of the whole model."""

from __future__ import annotations

import onnx
import onnx.onnx_cpp2py_export.shape_inference as inference
import pytest
from onnx.parser import parse_model

from qdqgraph.model import strict_inference
from qdqgraph.model.strict_inference import error_of

HEAD = '<ir_version: 8, opset_import: ["": 17, "local": 1]>'
SOUND = f"""{HEAD}
g (float[2, 3] x, bool c) => (float[3, 2] y, float[6] z)
<float[2] bias = {{1.0, 2.0}}, int64[1] one = {{-1}}, float[2, 3] h, float[5] unused = {{1.0, 2.0, 3.0, 4.0, 5.0}}> {{
    shape = Constant <value = int64[2] {{3, 2}}> ()
    a = Relu (x)
    h = Sigmoid (a)
    b = Reshape (h, shape)
    d = local.twice (b)
    y = Add (d, bias)
    e = If (c) <
        then_branch = then () => (float[2, 3] t) {{ t = Neg (a) }},
        else_branch = other () => (float[2, 3] u) {{ u = Exp (h) }}
    >
    z = Reshape (e, one)
}}
<domain: "local", opset_import: ["": 17]>
twice (v) => (w) {{ w = Add (v, v) }}"""
WRONG = {
    "float[2] bias = {1.0, 2.0}": "float[4] bias = {1.0, 2.0, 3.0, 4.0}",  # fits what the part produces only if its shape is carried
    "int64[2] {3, 2}": "int64[2] {5, 2}",  # a value that another part has
    "float[2, 3] h": "float[2, 4] h",  # a declaration
    "float[6] z": "int32[6] z",
    "float[5] unused = {1.0": "float[5] x = {1.0",  # a constant and its declaration
    "t = Neg (a)": "t = MatMul (a, a)",
    "w = Add (v, v)": "w = MatMul (v, v)",
}
"""Changes of SOUND that onnx rejects."""
PARTS = (1, 2, 3, 5)


def by_parts(model: onnx.ModelProto, size: int, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """Returns what is said of a model in parts of this size, and the most nodes that onnx saw at once."""
    seen, infer = [0], inference.infer_shapes

    def counted(data: bytes, *how: bool) -> bytes:
        seen.append(len(onnx.ModelProto.FromString(data).graph.node))
        return bytes(infer(data, *how))

    monkeypatch.setattr(strict_inference, "PART", size)
    monkeypatch.setattr(inference, "infer_shapes", counted)
    error = error_of(model)
    monkeypatch.undo()
    return error, max(seen)


@pytest.mark.parametrize("size", PARTS)
def test_a_sound_model_is_inferred_in_parts(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse_model(SOUND)
    error, most = by_parts(model, size, monkeypatch)
    assert error == ""
    assert most <= size + 1, "a part, and a Constant that it reads from an earlier one"


@pytest.mark.parametrize("size", PARTS)
@pytest.mark.parametrize("old", WRONG)
def test_errors_are_those_of_the_whole_model(old: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse_model(SOUND.replace(old, WRONG[old]))
    whole = error_of(model)
    assert whole
    assert by_parts(model, size, monkeypatch)[0] == whole


@pytest.mark.parametrize("size", PARTS)
def test_after_an_unknown_operator_onnx_says_no_error_in_parts_either(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SOUND.replace("a = Relu (x)", "q = local.unknown (x)\n a = Relu (x)").replace("float[6] z", "int32[6] z")
    model = parse_model(text)
    assert error_of(model) == by_parts(model, size, monkeypatch)[0] == ""


def test_a_model_that_is_not_in_topological_order_has_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse_model(SOUND.replace("float[6] z", "int32[6] z"))
    model.graph.node.sort(key=lambda node: node.output[0] == "a")
    assert error_of(model) == by_parts(model, 2, monkeypatch)[0] == ""


def test_the_model_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse_model(SOUND)
    before = model.SerializeToString(deterministic=True)
    by_parts(model, 3, monkeypatch)
    assert model.SerializeToString(deterministic=True) == before

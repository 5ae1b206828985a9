"""Repairs of half-precision models: each node input reads its tensor in the type that it read before."""

import struct
from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import ModelError, Options
from qdqgraph.model.text import parse
from qdqgraph.rulekit import Graph, pairs
from tests.support.halves import sandwiched
from tests.support.models import CONCAT, build, fixed

RESIDUAL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
    a = Relu (x)  b = t.conv4 (a, s1)  c = Add (b, a)  y = t.conv4 (c, s2) }"""


def types(model: onnx.ModelProto) -> dict[str, int]:
    found = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    return {i.name: i.type.tensor_type.elem_type for i in (*found.input, *found.value_info, *found.output)}


def read(model: onnx.ModelProto, name: str) -> list[str]:
    """The operators upstream of a tensor, along first inputs."""
    producers = {o: n for n in model.graph.node for o in n.output}
    found = []
    while name in producers:
        found.append(producers[name].op_type)
        name = producers[name].input[0]
    return found


def test_a_skip_reads_the_pair_through_the_cast_that_exists() -> None:
    half = sandwiched(build(RESIDUAL))
    result = fixed(half)
    assert [f.code for f in result.applied] == ["QDQ201"]
    add = next(n for n in result.model.graph.node if n.op_type == "Add")
    skip = next(n for n in add.input if read(result.model, n)[0] == "Cast")
    assert read(result.model, skip) == ["Cast", "DequantizeLinear", "QuantizeLinear", "Cast", "Relu"]
    assert len(result.model.graph.node) == len(half.graph.node)


def test_a_new_pair_at_an_fp16_tensor_gets_its_casts() -> None:
    """Before opset 19 Q and DQ accept FP32 only."""
    pool = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) {
        a = Relu (x)  i = Identity (a)  e = Transpose <perm = [0, 1, 3, 2]> (a)
        y = t.conv4 (i, s1)  v = t.conv4 (e, s1) }"""
    half = sandwiched(build(pool))
    result = fixed(half)
    new = [n for n in result.model.graph.node if any(p.key == "qdqgraph.rule" for p in n.metadata_props)]
    assert [n.op_type for n in new] == ["QuantizeLinear", "DequantizeLinear"]
    moved = next(n for n in result.model.graph.node if n.op_type == "Transpose")
    assert read(result.model, moved.input[0]) == ["Cast", "DequantizeLinear", "QuantizeLinear", "Cast", "Relu"]
    assert types(result.model)[moved.input[0]] == onnx.TensorProto.FLOAT16


def test_a_new_pair_at_an_fp16_tensor_has_an_fp16_scale_where_its_group_has() -> None:
    half = qdqgraph.to_fp16(
        build("""g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) {
        a = Relu (x)  i = Identity (a)  e = Transpose <perm = [0, 1, 3, 2]> (a)
        y = t.conv4 (i, s1)  v = t.conv4 (e, s1) }""")
    ).model
    result = fixed(half)
    assert result.pairs_added and not any(n.op_type == "Cast" for n in result.model.graph.node)


@pytest.mark.parametrize("skip", ["a", "c"])
def test_a_tie_over_fp16_and_fp32_tensors_has_one_number_in_two_types(skip: str) -> None:
    half = qdqgraph.to_fp16(build(CONCAT), skip=(skip,)).model
    assert {str(p.scale.dtype) for p in pairs(Graph(half)) if p.tieable and p.scale is not None} == {
        "float32",
        "float16",
    }
    result = fixed(half)
    assert [f.code for f in result.applied] == ["QDQ101", "QDQ203"]
    scales = {p.value for p in pairs(Graph(result.model)) if p.tieable}
    assert len(scales) == 1 and types(result.model)


def test_a_policy_with_a_fixed_scale_is_rounded_to_what_every_type_represents() -> None:
    half = qdqgraph.to_fp16(build(CONCAT), skip=("a",)).model
    result = fixed(half, policy="fixed:0.1234567", max_bits_lost=2.0)
    (scale,) = {p.value for p in pairs(Graph(result.model)) if p.tieable}
    assert scale == float(onnx.numpy_helper.to_array(onnx.helper.make_tensor("", 10, [], [0.1234567])))


def test_an_anchor_is_named_as_the_site_that_it_is() -> None:
    with pytest.raises(ModelError, match="'a_float' is 'a' in another type: write anchor:a"):
        qdqgraph.fix(sandwiched(build(CONCAT)), policy="anchor:a_float")


def test_the_findings_of_a_bf16_model_are_those_of_its_twin() -> None:
    twin = build(CONCAT)
    twin.opset_import[0].version, twin.ir_version = 22, 10
    half = sandwiched(twin, onnx.TensorProto.BFLOAT16)
    onnx.checker.check_model(half, full_check=True)
    options = Options()
    assert [f.identity for f in qdqgraph.check(half, options=options)] == [
        f.identity for f in qdqgraph.check(twin, options=options)
    ]
    assert fixed(half).pairs_after == fixed(twin).pairs_after


TINY = """<ir_version: 9, opset_import: ["" : 19]>
g (float16[1,2,4,4] x) => (float16[1,2,4,4] y)
<float16 s = {11878}, int8 z = {0}, int8[2,2,1,1] w = {1, 2, 3, 4}, float16 sw = {8479}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) k = DequantizeLinear (w, sw, z) c = Conv (d, k)
    r = Sigmoid (d) a = Add (c, r) qa = QuantizeLinear (a, s, z) da = DequantizeLinear (qa, s, z) y = Conv (da, k)
}"""


def ranges(folder: Path, sites: str, amax: float) -> Path:
    """A TensorRT calibration cache with one range for these sites."""
    scale = struct.pack(">f", amax / 127).hex()
    cache = folder / "x.cache"
    cache.write_text("TRT-8601-EntropyCalibration2\n" + "".join(f"{site}: {scale}\n" for site in sites))
    return cache


def test_a_measured_scale_that_fp16_rounds_to_zero_is_the_least_one_of_fp16(tmp_path: Path) -> None:
    """Ranges of 1e-7: the scale, 8e-10, is zero in FP16, at the pairs of the file and at the new one of the skip `r`."""
    result = qdqgraph.fix(parse(TINY), ranges=ranges(tmp_path, "xra", 1e-7))
    found = {p.site: p.value for p in pairs(Graph(result.model)) if p.kind == "activation"}
    assert found == dict.fromkeys("xra", 2.0**-24)


def test_a_pair_without_a_zero_point_keeps_its_scale(tmp_path: Path) -> None:
    """ONNX reads its integers as UINT8 and TensorRT as INT8 (QDQ402): for which of them a scale would be is not known."""
    text = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[1,2] x) => (float[1,2] y) <float s = {0.03}, int8 z = {0}, int8[2,2] w = {1, 2, 3, 4}> {
            q = QuantizeLinear (x, s) d = DequantizeLinear (q, s) k = DequantizeLinear (w, s, z) y = MatMul (d, k)
        }"""
    result = qdqgraph.fix(parse(text), ranges=ranges(tmp_path, "x", 1.27))
    assert [p.value for p in pairs(Graph(result.model)).at("x")] == [np.float32(0.03)]
    assert "QDQ402" in {finding.code for finding in result.left}

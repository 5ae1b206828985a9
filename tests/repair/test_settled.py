"""What decides on the first run is still there on the second, so that the same command changes no byte of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.graph.graph import Graph
from qdqgraph.graph.pair import pairs
from qdqgraph.model.text import parse
from tests.support.models import CONCAT, build

TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"
"""A tensor that is quantized with two scales. Its tie ends with the repair."""
BESIDE_SMALL = """g (float[1,4,8,8] x, float[1,4,8,8] t) => (float[1,4,8,8] y, float[1,4,8,8] u, float[1,4,8,8] v) {
    k = t.conv4 (x, s3) y = t.pair (k, s4)
    a = Exp (x) u = t.conv4 (a, s1) c = Concat <axis = 1> (a, t) v = t.conv8 (c, s2) }"""
"""A pair between FP32 tensors in an FP16 network if x is so small that FP16 loses its scale; a Concat beside it."""
WITHOUT_ZERO_POINT = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,4,4] x) => (float[1,2,4,4] y)
    <float s = {0.1}, int8 z = {0}, int8[2,2,1,1] w = {64, 32, 16, 8}, float sw = {0.01}>
    {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        k = DequantizeLinear (w, sw)
        y = Conv (d, k)
    }"""


def table(path: Path, **amax: float) -> Path:
    """A calibration cache of TensorRT."""
    lines = (f"{name}: {np.float32(value / 127).view(np.uint32):08x}" for name, value in amax.items())
    path.write_text("\n".join(("TRT-8601-EntropyCalibration2", *lines, "")))
    return path


def settled(model: onnx.ModelProto, **options: Any) -> Graph:
    """The repaired graph, after a second run that changes nothing."""
    result = qdqgraph.fix(model, **options)
    again = qdqgraph.fix(result.model, **options)
    assert again.model.SerializeToString() == result.model.SerializeToString() and not again.plan.edits
    return Graph(result.model)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("max", 10), ("output", 10), ("input", 2), ("anchor:a", 3), ("anchor:y", 10), ("fixed:0.5", 63.5)],
)
def test_policies_choose_among_measured_scales(policy: str, expected: float, tmp_path: Path) -> None:
    ranges = table(tmp_path / "cache.txt", a=3, t=2, c=10)
    graph = settled(build(CONCAT), ranges=ranges, policy=policy, max_bits_lost=9)
    assert [p.value * 127 for p in pairs(graph) if p.kind == "activation"] == pytest.approx([expected] * 2)


@pytest.mark.parametrize("policy", ["max", "output", "fixed:1e-30"])
@pytest.mark.parametrize("fp16", [False, True])
def test_a_measured_tensor_has_one_scale_whatever_the_policy(policy: str, fp16: bool, tmp_path: Path) -> None:
    graph = settled(build(TWICE), ranges=table(tmp_path / "cache.txt", x=1), policy=policy, fp16=fp16)
    assert [p.value for p in pairs(graph).at("x")] == pytest.approx([1 / 127], rel=1e-3)


@pytest.mark.parametrize("max_bits_lost", [0.1, 9])
def test_a_measured_scale_that_fp16_rounds_stays_rounded_where_its_pair_stays_fp32(
    max_bits_lost: float, tmp_path: Path
) -> None:
    """With the smaller limit the guard refuses the Concat, and the FP16 network is repaired again in the same run."""
    options: dict[str, Any] = {
        "ranges": table(tmp_path / "cache.txt", x=1e-6, k=3, a=1, t=2, c=10),
        "max_bits_lost": max_bits_lost,
        "fp16": True,
        "keep_io": True,
    }
    graph = settled(build(BESIDE_SMALL), **options)
    [pair] = pairs(graph).at("k")
    assert pair.value == np.float16(3 / 127) and pair.scale_types == {"float32"}
    again = qdqgraph.fix(graph.model, **options)
    assert not again.applied and not again.changes and again.fp16 is not None and again.fp16.scale_change == 0
    assert (pairs(graph).at("a")[0].value == pairs(graph).at("c")[0].value) is (max_bits_lost == 9)


@pytest.mark.parametrize("weights", ["int8", "float", None])
def test_weights_without_a_zero_point_get_a_scale_for_each_channel(weights: str | None) -> None:
    graph = settled(parse(WITHOUT_ZERO_POINT), weights=weights)
    assert [p.axis for p in pairs(graph) if p.kind == "weight"] == [0]


def test_constants_that_are_nodes_have_a_type_in_the_next_round() -> None:
    """Below IR version 4 a new constant is a node: INT8 weights made of UINT8 ones get scales per channel at once."""
    model = parse("""
        <ir_version: 3, opset_import: ["" : 13]>
        g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        {
            s = Constant <value = float {0.1}> ()
            z = Constant <value = int8 {0}> ()
            w = Constant <value = uint8[2,2,1,1] {5, 6, 7, 8}> ()
            u = Constant <value = uint8 {128}> ()
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            k = DequantizeLinear (w, s, u)
            y = Conv (d, k)
        }""")
    graph = settled(model)
    (weights,) = (pair for pair in pairs(graph) if pair.kind == "weight")
    assert weights.axis == 0 and weights.types[1] == "int8"

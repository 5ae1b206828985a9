"""`fix` with data: missing scales are measured, groups get the best scale of all their values, the guard is measured."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import numpy_helper

import qdqgraph
from qdqgraph.calibration.statistics import running
from qdqgraph.calibration.statistics.segments import Segment, segments
from qdqgraph.calibration.tables import tensorrt
from qdqgraph.errors import CalibrationError, ModelError
from qdqgraph.graph.graph import Graph
from qdqgraph.graph.pair import pairs
from qdqgraph.model.text import parse
from qdqgraph.repair.applied import told
from qdqgraph.rulekit.finding import Finding, Safety, Severity, Tie
from tests.support.graphs import nets
from tests.support.marks import unmarked
from tests.support.models import build
from tests.support.samples import uniform as data

PRODUCT = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,1,4,4] x) => (float[1,1,4,4] y)
    <float s = {0.1}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
    {
        k = DequantizeLinear (w, sw, z)
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        a = Conv (d, k)
        b = Conv (d, k)
        t = Transpose <perm = [0, 1, 3, 2]> (b)
        y = MatMul (a, t)
    }"""
"""A product of two activations without scales (QDQ208)."""

JOINED = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,1,4,4] x, float[1,1,4,4] v) => (float[1,1,4,4] y)
    <float s = {0.02}, float r = {0.05}, int8 z = {0}, int8[1,2,1,1] w = {64, 32}, float sw = {0.01}>
    {
        k = DequantizeLinear (w, sw, z)
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        p = QuantizeLinear (v, r, z)
        e = DequantizeLinear (p, r, z)
        c = Concat <axis = 1> (d, e)
        cq = QuantizeLinear (c, r, z)
        cd = DequantizeLinear (cq, r, z)
        y = Conv (cd, k)
    }"""
"""A Concat of two tensors with different scales (QDQ101)."""


X = "float[1,4,8,8]"


def scales(model: onnx.ModelProto) -> dict[str, float]:
    return {p.site: p.value for p in pairs(Graph(model)) if p.kind == "activation"}


def provenance(model: onnx.ModelProto) -> str:
    return next((m.value for m in model.metadata_props if m.key == "qdqgraph.calibration"), "")


def test_a_missing_scale_is_the_reason_of_a_refusal_until_there_are_data() -> None:
    model = parse(PRODUCT)
    refused = [f for f in qdqgraph.fix(model).left if f.code == "QDQ208"]
    assert refused and "measure it with --data" in refused[0].refused
    result = qdqgraph.fix(model, data=data(model), calibrate="max")
    assert not result.left
    assert result.int8 is not None and (result.int8[0].int8, result.int8[1].int8) == (2, 3)
    amax = max(float(np.abs(0.64 * f["x"]).max()) for f in data(model))
    found = scales(result.model)
    assert found["a"] == pytest.approx(amax / 127, rel=0.05)
    assert found["t"] > 0


def test_an_applied_repair_says_what_was_done_and_each_finding_once() -> None:
    result = qdqgraph.fix(parse(PRODUCT), data=data(parse(PRODUCT)), calibrate="max")
    assert [f.help for f in result.applied if f.code == "QDQ208"] == [
        "give 'a' a pair with its measured scale, give 't' a pair with its measured scale"
    ]
    model = build(
        f"""g ({X} x, {X} z) => ({X} y, {X} u) {{
        p = Relu (x) r = Relu (z) u = t.conv4 (p, s1) a = Add (p, r) y = t.conv4 (a, s2) }}"""
    )
    result = qdqgraph.fix(model, data=data(model), calibrate="max", also=("QDQ201",))
    (skips,) = (f for f in result.applied if f.code == "QDQ201")
    assert skips.message == "the operands 'p' and 'r' of the residual Add are read as float"
    assert skips.help == "read 'p' through its pair, give 'r' a pair with its measured scale" and not result.left


def test_a_tie_that_two_stages_apply_is_reported_once_with_the_last_scale() -> None:
    tie, other = (Finding("MY101", "n", Severity.WARNING, Safety.LOSSY, p, p, "m", "first") for p in "ab")
    tie = replace(tie, tie=Tie(("a", "c")))
    again = replace(tie, message="its group", help="give all the scale 0.2", bits_lost=0.5)
    assert told((tie, other, again)) == (replace(tie, help=again.help, bits_lost=0.5), other)


def test_max_is_the_largest_magnitude_and_a_percentile_clips_outliers() -> None:
    model = parse(PRODUCT)
    samples = data(model, 64)
    samples[0]["x"][0, 0, 0, 0] = 40
    largest = qdqgraph.fix(model, data=samples, calibrate="max")
    clipped = qdqgraph.fix(model, data=samples, calibrate="percentile", percentile=99.0)
    assert scales(largest.model)["x"] == pytest.approx(40 / 127)
    assert scales(clipped.model)["x"] < 0.5 * scales(largest.model)["x"]


def test_a_group_gets_one_scale_for_all_its_values() -> None:
    model = parse(JOINED)
    samples = data(model)
    for sample in samples:
        sample["v"] *= 2
    result = qdqgraph.fix(model, data=samples, calibrate="max")
    found = scales(result.model)
    assert found["x"] == found["v"] == pytest.approx(2 / 127, rel=0.05)
    assert len(set(found.values())) == 1


def test_the_guard_measures_the_error() -> None:
    model = parse(JOINED)
    samples = data(model)
    for sample in samples:
        sample["v"] *= 50
    refused = qdqgraph.fix(model, data=samples, calibrate="max").left
    assert [f.code for f in refused] == ["QDQ101"]
    assert "bits at 'x'" in refused[0].refused and refused[0].bits_lost == pytest.approx(np.log2(50), abs=0.2)
    assert not qdqgraph.fix(model, data=samples, calibrate="max", max_bits_lost=8).left


def test_a_second_run_changes_nothing_and_undo_restores_the_bytes() -> None:
    model = parse(JOINED)
    before = model.SerializeToString()
    result = qdqgraph.fix(model, data=data(model))
    assert provenance(result.model).startswith("auto; 4 samples; sha256 ")
    assert all(change.method for change in result.changes)
    assert not qdqgraph.fix(unmarked(result.model), data=data(model)).plan.edits
    assert result.plan.apply(model).SerializeToString() == result.model.SerializeToString()
    assert result.plan.inverse().apply(result.model).SerializeToString() == before


def test_keep_scales_measures_only_what_is_missing() -> None:
    model = parse(PRODUCT)
    kept = qdqgraph.fix(model, data=data(model), keep_scales=True)
    assert scales(kept.model)["x"] == scales(model)["x"] == pytest.approx(0.1)
    assert not kept.left
    with pytest.raises(ModelError, match="keep_scales has an effect only with data"):
        qdqgraph.fix(model, keep_scales=True)


def test_the_method_none_uses_the_data_for_the_numeric_check_alone() -> None:
    model = parse(JOINED)
    result = qdqgraph.fix(model, data=data(model), calibrate="none", numerics=True)
    assert result.model.SerializeToString() == qdqgraph.fix(model).model.SerializeToString()
    assert result.numbers is not None and result.numbers.data


def test_an_unknown_method_is_a_sentence() -> None:
    with pytest.raises(CalibrationError, match="there is no calibration method 'median'"):
        qdqgraph.fix(parse(JOINED), data=data(parse(JOINED)), calibrate="median")


def test_the_scales_of_a_calibration_cache_arrive_bit_for_bit(tmp_path: Path) -> None:
    given = {"x": 0.0123456789, "a": 0.00345678, "t": 0.0029, "other": 1.0}
    (tmp_path / "model.cache").write_text(tensorrt.written(given))
    result = qdqgraph.fix(parse(PRODUCT), ranges=tmp_path / "model.cache")
    found = scales(result.model)
    assert np.float32(found["x"]) == np.float32(given["x"])
    assert np.float32(found["a"]) == np.float32(given["a"])
    assert provenance(result.model) == "TensorRT calibration cache model.cache"
    assert result.notes == ("model.cache has 1 tensor that the model does not have: other",)


def test_statistics_are_kept_and_refused_for_other_data(tmp_path: Path) -> None:
    model, path = parse(JOINED), tmp_path / "statistics.npz"
    first = qdqgraph.fix(model, data=data(model), statistics=path)
    assert path.exists()
    again = qdqgraph.fix(model, data=data(model), statistics=path, calibrate="max")
    assert scales(again.model) != {} and first.model.SerializeToString() != b""
    with pytest.raises(CalibrationError, match="other samples"):
        qdqgraph.fix(model, data=data(model, seed=1), statistics=path)


@pytest.mark.parametrize("method", ["max", "mse", "percentile", "entropy"])
def test_kept_statistics_give_the_scales_of_the_data_without_the_data(tmp_path: Path, method: str) -> None:
    model, path = parse(JOINED), tmp_path / "statistics.npz"
    measured = qdqgraph.fix(model, data=data(model), statistics=path, calibrate=method)
    stored = qdqgraph.fix(model, ranges=path, calibrate=method)
    assert stored.model.SerializeToString() == unmarked(measured.model).SerializeToString()
    assert not stored.notes


def test_auto_on_kept_statistics_has_the_lesser_squared_error(tmp_path: Path) -> None:
    model, path = parse(JOINED), tmp_path / "statistics.npz"
    mse = qdqgraph.fix(model, data=data(model), statistics=path, calibrate="mse")
    auto = qdqgraph.fix(model, ranges=path)
    assert scales(auto.model) == scales(mse.model) and provenance(auto.model).startswith("auto; 4 samples; sha256 ")


def test_kept_statistics_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.npz"
    qdqgraph.fix(parse(JOINED), data=data(parse(JOINED)), statistics=path)
    with pytest.raises(CalibrationError, match=r"statistics\.npz: these statistics are of another network; measure"):
        qdqgraph.fix(parse(PRODUCT), ranges=path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(
        CalibrationError, match=r"statistics\.npz: this is a file of NumPy arrays \(\.npz\), not a file of statistics"
    ):
        qdqgraph.fix(parse(PRODUCT), ranges=path)
    with pytest.raises(ModelError, match="--calibrate none takes no scales from statistics"):
        qdqgraph.fix(parse(PRODUCT), ranges=path, calibrate="none")


def test_auto_clips_where_a_layer_multiplies_small_channels_by_large_weights() -> None:
    """Channel 0 of a depthwise convolution is large and hardly counts; channel 1 is small and has a large weight."""
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,8,8] x) => (float[1,2,8,8] y)
        <float s = {0.1}, int8 z = {0}, int8[2,1,1,1] w = {127, 127}, float[2] sw = {0.0001, 1.0}, int8[2] zw = {0, 0}>
        {
            k = DequantizeLinear <axis = 0> (w, sw, zw)
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            y = Conv <group = 2> (d, k)
        }""")
    samples = data(model)
    for sample in samples:
        sample["x"][:, 1] *= 0.2
    plain, auto = (qdqgraph.fix(model, data=samples, calibrate=m) for m in ("mse", "auto"))
    assert scales(auto.model)["x"] < 0.8 * scales(plain.model)["x"]
    assert auto.changes[0].method.startswith("mse x ")


def test_the_result_does_not_depend_on_the_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parse(JOINED)
    whole, rows = qdqgraph.fix(model, data=data(model)), qdqgraph.error(model, data(model)).layers
    parts: list[int] = []

    def tightest(model: onnx.ModelProto, taps: Any, sizes: Any, types: Any, budget: int) -> list[Segment]:
        for limit in range(50, budget, 50):
            with suppress(ModelError):
                found = segments(model, taps, sizes, types, limit)
                parts.append(len(found))
                return found
        raise AssertionError("no limit fits")

    monkeypatch.setattr(running, "segments", tightest)
    assert qdqgraph.fix(model, data=data(model)).model.SerializeToString() == whole.model.SerializeToString()
    assert qdqgraph.error(model, data(model)).layers == rows
    assert len(parts) == 3 and min(parts) > 1, "measuring, comparing scales, comparing layers"


def test_a_limit_that_one_node_exceeds_is_a_sentence() -> None:
    with pytest.raises(
        ModelError, match=r"needs [1-9]\d* bytes for its tensors, and the memory limit leaves 128: raise --memory"
    ):
        qdqgraph.error(parse(JOINED), data(parse(JOINED)), memory=1 << 10)


def test_a_process_larger_than_the_limit_measures_within_an_eighth_of_it() -> None:
    model = parse(JOINED)
    small = qdqgraph.fix(model, data=data(model), memory=1 << 20)
    assert small.model.SerializeToString() == qdqgraph.fix(model, data=data(model)).model.SerializeToString()


def test_a_second_run_of_auto_reports_nothing_where_a_layer_wants_a_smaller_scale() -> None:
    """The second run measures mse x 0.85 anew: in between, a scale differs from the one that it had and gets again."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,8,8] x) => (float[1,2,4,4] y)
        <float s = {0.02}, float r = {0.05}, int8 z = {0}, int8[2,1,1,1] w = {100, 3}, float sw = {0.01}>
        {
            k = DequantizeLinear (w, sw, z)
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
            pq = QuantizeLinear (p, r, z)
            pd = DequantizeLinear (pq, r, z)
            y = Conv <group = 2> (pd, k)
        }""")
    random = np.random.default_rng(2)
    samples = [{"x": random.standard_t(2.5, (1, 2, 8, 8)).astype(np.float32)} for _ in range(4)]
    for sample in samples:
        sample["x"][:, 0] *= 0.05
    first = qdqgraph.fix(model, data=samples)
    assert {change.method for change in first.changes} == {"mse x 0.85"}
    second = qdqgraph.fix(first.model, data=samples)
    assert (second.applied, second.changes, second.plan.edits) == ((), (), ())


def test_pairs_that_become_symmetric_have_their_scale_from_data_in_the_changes() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1,1,4,4] x) => (float[1,1,4,4] y)
        <float s = {0.1}, uint8 u = {128}, int8 z = {0}, int8[1,1,1,1] w = {64}, float sw = {0.01}>
        {
            k = DequantizeLinear (w, sw, z)
            q = QuantizeLinear (x, s, u)
            d = DequantizeLinear (q, s, u)
            y = Conv (d, k)
        }""")
    (change,) = qdqgraph.fix(model, data=data(model), calibrate="max").changes
    assert (change.site, change.method) == ("x", "max") and change.new < 1 / 127 < 0.1 <= change.own


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(nets)
def test_on_random_graphs_it_settles_and_undoes(model: onnx.ModelProto) -> None:
    samples, before = data(model), model.SerializeToString()
    result = qdqgraph.fix(model, data=samples, calibrate="mse")
    onnx.checker.check_model(result.model, full_check=True)
    if result.plan.edits:
        assert not qdqgraph.fix(unmarked(result.model), data=samples, calibrate="mse").plan.edits
    assert result.plan.inverse().apply(result.model).SerializeToString() == before
    assert all(np.isfinite(numpy_helper.to_array(i)).all() for i in result.model.graph.initializer)
    assert all(change.lost <= 3.0 for change in result.changes)


LOUD_AND_QUIET = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[1,4] x) => (float[1,1] y)
    <float s = {0.8}, int8 z = {0}, float[4,1] loud = {1, 0, 0, 0}, float[4,1] quiet = {0, 1, 1, 1}, float few = {0.001}>
    {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        a = MatMul (d, loud)
        b = MatMul (d, quiet)
        c = Mul (SMALL, few)
        y = Add (LARGE, c)
    }"""
"""Clipping the loud channel costs the first layer less than rounding the quiet ones to zero costs the second."""


@pytest.mark.parametrize(("large", "small", "clips"), [("b", "a", True), ("a", "b", False)])
def test_auto_keeps_scales_of_layers_only_where_the_outputs_do_not_get_worse(
    large: str, small: str, clips: bool
) -> None:
    """The layers are the same in both networks, and what the output makes of them is not."""
    model = parse(LOUD_AND_QUIET.replace("LARGE", large).replace("SMALL", small))
    samples = [{"x": np.array([[100 + k, 0.3, 0.32, 0.34]], np.float32)} for k in range(4)]
    assert (scales(qdqgraph.fix(model, data=samples).model)["x"] < 0.7) is clips

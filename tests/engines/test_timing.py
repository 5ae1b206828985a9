"""Estimated times: the work of kernels, the fit to profiles, and the ranking of engines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from qdqgraph import api
from qdqgraph.cli.main import main
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.layers import Engine
from qdqgraph.engines.read.saved import open_engine
from qdqgraph.engines.timing.device import NAMES, Device
from qdqgraph.engines.timing.fit import fitted, layer_error
from qdqgraph.engines.timing.roofline import Roofline, Shares, default_shares
from qdqgraph.engines.timing.work import Work, works
from qdqgraph.errors import EngineError
from qdqgraph.graph.graph import Graph
from qdqgraph.targets.target import Target
from tests.support.models import build
from tests.support.paths import DATA, NVIDIA

KNOWN = Shares(0.6, {"INT8": 0.3, "FP16": 0.45}, 7.0, (1.0, 1.0), "")


def weighted(text: str) -> list[Work]:
    """The work of the kernels of a graph that compute a convolution or matrix product."""
    graph = Graph(build(text), target=Target.named("trt-11"))  # computes in the types of the file
    return [work for work in works(forecast(graph, "m"), graph) if work.operations]


def recorded() -> Engine:
    return open_engine(DATA / "qat-residual.graph.json", profile=DATA / "qat-residual.profile.json", times=None)


def test_a_convolution_multiplies_each_output_element_by_the_weights_of_its_group() -> None:
    text = """g (float[2,4,16,16] x, float[8,2,3,3] w) => (float[2,8,14,14] y) { y = Conv <group = 2> (x, w) }"""
    (work,) = weighted(text)
    assert work.operations == 2 * (2 * 8 * 14 * 14) * (2 * 3 * 3)
    assert work.bytes == 4 * (2 * 4 * 16 * 16 + 8 * 2 * 3 * 3 + 2 * 8 * 14 * 14)


def test_a_deconvolution_multiplies_each_input_element_by_the_weights_of_its_channel() -> None:
    text = """g (float[1,4,8,8] x, float[4,6,2,2] w) => (float[1,6,16,16] y) {
        y = ConvTranspose <strides = [2, 2]> (x, w) }"""
    assert [work.operations for work in weighted(text)] == [2 * (4 * 8 * 8) * (6 * 2 * 2)]


@pytest.mark.parametrize(
    ("text", "multiplied"),
    [
        ("g (float[3,5,7] x, float[7,11] w) => (float[3,5,11] y) { y = MatMul (x, w) }", 3 * 5 * 7 * 11),
        ("g (float[7,5] x, float[7,11] w) => (float[5,11] y) { y = Gemm <transA = 1> (x, w) }", 5 * 7 * 11),
        ("g (float[5,7] x, float[11,7] w) => (float[5,11] y) { y = Gemm <transB = 1> (x, w) }", 5 * 7 * 11),
    ],
)
def test_a_matrix_product_multiplies_each_result_along_the_inner_dimension(text: str, multiplied: int) -> None:
    assert [work.operations for work in weighted(text)] == [2 * multiplied]


def test_constant_weights_count_once_in_the_precision_of_their_kernel() -> None:
    text = "g (float[1,4,16,16] x) => (float[1,4,16,16] y) { y = t.conv4 (x, s1) }"
    (work,) = weighted(text)
    assert work.precision == "INT8"
    weights = work.bytes - work.layer.bytes
    assert work.operations == 2 * 16 * 16 * weights


def test_layer_info_gives_the_operations_of_a_convolution_also_if_a_pool_fuses_with_it() -> None:
    found = {w.layer.name: w for w in works(recorded())}
    stem = found["conv1.weight + QuantizeLinear_7 + Conv_9 + MaxPool_12"]
    assert stem.operations == 2 * 32 * 112 * 112 * 9408
    assert stem.bytes == stem.layer.bytes + 9408
    assert found["layer1.0.conv1.weight + QuantizeLinear_20 + Conv_22"].operations == 2 * 32 * 56 * 56 * 36864


def test_fp16_halves_what_fp32_kernels_store_and_leaves_int8() -> None:
    text = "g (float[1,4,16,16] x) => (float[1,4,16,16] y) { a = t.conv4 (x, s1) y = Sin (a) }"
    graph = Graph(build(text))
    for wide, half in zip(*(works(forecast(graph, "m"), graph, floats) for floats in ("", "FP16")), strict=True):
        fp32 = sum(t.bytes for t in (*wide.layer.inputs, *wide.layer.outputs) if t.precision == "FP32")
        assert (half.bytes, half.operations) == (wide.bytes - fp32 // 2, wide.operations)


@pytest.mark.parametrize("name", NAMES)
def test_a_device_computes_faster_in_fewer_bits(name: str) -> None:
    device = Device.named(name)
    assert device.bandwidth > 1e11
    assert device.peak("FP32") < device.peak("FP16") < device.peak("INT8")
    assert device.peak("INT4") == device.peak("FP32")


def test_a_fit_finds_the_shares_that_times_were_made_from() -> None:
    roofline, engine = Roofline(Device.named("a100"), KNOWN), recorded()
    times = {id(row.work.layer): row.ms for row in roofline.estimate(engine).rows}
    made = replace(engine, layers=tuple(replace(x, time_ms=times.get(id(x))) for x in engine.layers))
    found = fitted([(made, roofline.device)], "made")
    assert layer_error(found, made, roofline.device) < 0.02
    assert found.bandwidth == pytest.approx(KNOWN.bandwidth, rel=0.1)
    assert found.launch_us == pytest.approx(KNOWN.launch_us, rel=0.1)


def test_a_fit_needs_times() -> None:
    engine = recorded()
    untimed = replace(engine, layers=tuple(replace(layer, time_ms=None) for layer in engine.layers))
    with pytest.raises(EngineError, match="0 layers have a time; a fit needs 8"):
        fitted([(untimed, Device.named())], "")


@pytest.mark.skipif(not NVIDIA.exists(), reason="the published engines are not here")
def test_published_engines_are_ranked_as_measured_or_called_close() -> None:
    roofline = Roofline(Device.named("a100"), default_shares())
    engines = [
        open_engine(NVIDIA / f"{name}.graph.json", profile=NVIDIA / f"{name}.profile.json", times=None)
        for name in ("fp16", "qat", "qat-residual")
    ]
    found = {engine.name: roofline.estimate(engine) for engine in engines}
    for a in engines:
        assert a.time_ms is not None
        assert found[a.name].low < a.time_ms < found[a.name].high
        for b in engines:
            assert b.time_ms is not None
            near = found[a.name].close_to(found[b.name])
            assert near or (found[a.name].ms < found[b.name].ms) == (a.time_ms < b.time_ms)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network in INT8, and the same one with its input in float."""
    monkeypatch.chdir(tmp_path)
    text = "g (float[1,4,512,512] x) => (float[1,4,512,512] y) {{ {} y = t.conv4 (b, s2) }}"
    onnx.save(build(text.format("b = t.conv4 (x, s1)")), "int8.onnx")
    onnx.save(build(text.format("a = t.conv4 (x, s1) b = Softmax <axis = 1> (a)")), "float.onnx")


@pytest.mark.usefixtures("models")
def test_the_command_prints_engines_fastest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "time", "float.onnx", "int8.onnx", "--device", "l4"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "(forecast" in line]
    assert [line.split("ms")[0].strip() for line in lines] == sorted(line.split("ms")[0].strip() for line in lines)
    assert "int8.onnx" in lines[0]
    assert "float.onnx" in lines[1]
    assert main(["engine", "time", "float.onnx", "int8.onnx", "--device", "l4", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [engine["name"] for engine in printed["engines"]] == ["int8.onnx", "float.onnx"]
    for engine in printed["engines"]:
        assert engine["ms"] == pytest.approx(sum(kernel["ms"] for kernel in engine["kernels"]))


@pytest.mark.usefixtures("models")
def test_a_single_engine_is_shown_with_its_slowest_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "time", "int8.onnx"]) == 0
    assert "Slowest 3 kernels" in capsys.readouterr().out


@pytest.mark.usefixtures("models")
def test_an_unknown_device_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "time", "int8.onnx", "--device", "h900"]) == 2
    assert "unknown device 'h900'; known devices: a100, l4" in capsys.readouterr().err


@pytest.mark.usefixtures("models")
def test_a_profile_of_the_device_replaces_the_shares() -> None:
    files = DATA / "qat-residual.graph.json", DATA / "qat-residual.profile.json"
    (given,) = api.estimate(["int8.onnx"])
    (own,) = api.estimate(["int8.onnx"], measured=files)
    assert own.ms != given.ms
    assert own.high / own.low < given.high / given.low


def test_what_tensorrt_fuses_by_timing_counts_as_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T1: from TensorRT 10 on, SiLU may be a kernel of its own after an INT8 convolution; TensorRT takes what is
    faster."""
    monkeypatch.chdir(tmp_path)
    text = """g (float[1,4,64,64] x) => (float[1,4,64,64] y) {
        a = t.conv4 (x, s1) b = Sigmoid (a) c = Mul (a, b) y = t.conv4 (c, s1) }"""
    onnx.save(build(text), "m.onnx")
    (found,) = api.estimate(["m.onnx"])
    assert len(found.rows) == len(api.forecast("m.onnx").working) - 1

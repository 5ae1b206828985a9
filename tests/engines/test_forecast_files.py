"""The forecast in the commands, of files that TensorRT refuses, and of indices, conditions and integers."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from qdqgraph.cli.main import main
from qdqgraph.engines.compare.diff import diff
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.forecast.propagation import Propagation
from qdqgraph.graph.graph import Graph
from qdqgraph.targets.target import Target
from tests.support import torchscript
from tests.support.forecasts import SKIP, forecast_layers, names, types
from tests.support.models import build as model_of
from tests.support.paths import DATA


def test_check_says_what_a_finding_costs_in_the_forecast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(model_of(SKIP.replace("k = {}", "").replace("(b, k)", "(b, r)").format()), file)
    assert main(["check", str(file), "--select", "QDQ201"]) == 1
    said = capsys.readouterr().out
    tensor = 4 * 16 * 16
    reformat = 2 * tensor + tensor
    written_and_read_in_fp16 = 2 * tensor
    assert f"costs {reformat + written_and_read_in_fp16:,} bytes a run" in said


def test_the_commands_take_a_model_in_place_of_an_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(torchscript.resnet18(residual=False), file)
    assert main(["engine", "forecast", str(file), "--target", "trt-8.6"]) == 0
    said = capsys.readouterr().out
    assert "33 kernels, 10 reformats" in said and "forecast for trt-8.6" in said
    assert "Reformats, by cost: 10\n" in said and "  5 more: -v lists all" in said
    assert main(["engine", "forecast", str(file), "--target", "trt-8.6", "-v"]) == 0
    said = capsys.readouterr().out
    assert "R12: it writes floating point, because " in said and "https://docs.nvidia.com" in said
    onnx.save(torchscript.resnet18(residual=True), other := tmp_path / "other.onnx")
    assert main(["engine", "diff", str(file), str(other)]) == 0
    assert main(["engine", "diff", str(other), str(file)]) == 1
    assert main(["engine", "diff", str(file), str(DATA / "qat.graph.json")]) in (0, 1)
    assert main(["engine", "forecast", str(file), "--target", "trt-7"]) == 2
    assert "trt-8.6" in capsys.readouterr().err


def test_a_tensor_whose_parts_are_wanted_with_different_scales_stays_float() -> None:
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) <int64[2] halves = {2, 2}> {
        c = t.conv4 (x, s1)  a, b = Split <axis = 1> (c, halves)  y = t.conv2 (a, SCALE)  v = t.conv2 (b, s2) }"""
    wanted = [Propagation(Graph(model_of(text.replace("SCALE", scale)))).wanted for scale in ("s2", "s3")]
    assert "c" in wanted[0] and "c" not in wanted[1]


INDICES = {
    "Gather of a constant": ("int64[4] i", "y = Gather (k, i)", "Gather(y)"),
    "Gather of data": ("int64[4] i", "y = Gather (x, i)", "Gather(y)"),
    "GatherND of a constant": ("int64[4,1] i", "y = GatherND (k, i)", "GatherND(y)"),
    "Where between constants": ("bool[4,4] i", "y = Where (i, k, o)", "Where(y)"),
    "ScatterND of updates": ("int64[4,1] i", "y = ScatterND (k, i, x)", "ScatterND(y)"),
    "ScatterElements": ("int64[4,4] i", "y = ScatterElements (k, i, x)", "ScatterElements(y)"),
    "OneHot": ("int64[4] i", "d = Constant <value = int64 {4}> () y = OneHot (i, d, f)", "OneHot(y)"),
    "TopK": ("int64[1] i", "y, n = TopK (x, i)", "TopK(y)"),
    "ArgMax": ("int64[4] i", "n = ArgMax <keepdims = 0> (x) m = Add (n, i) y = Cast <to = 1> (m)", "ArgMax(n)"),
}
"""Nodes that read indices, conditions or sizes beside their data: other inputs, nodes, the layer asked for."""


@pytest.mark.parametrize(("source", "nodes", "layer"), INDICES.values(), ids=INDICES)
def test_indices_and_conditions_do_not_decide_the_precision_of_a_layer(source: str, nodes: str, layer: str) -> None:
    kind, name = source.split()
    ones = ", ".join(["1"] * 16)
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[4,4] x, {kind} {name}) => (float y)
        <float[4,4] k = {{{ones}}}, float[4,4] o = {{{ones}}}, float[2] f = {{0, 1}}> {{ {nodes} }}"""
    found = forecast(Graph(onnx.parser.parse_model(text), target=Target.named("trt-11")), "m").layers
    (mine,) = (x for x in found if layer in x.nodes)
    assert mine.precision == "FP32"


def test_a_gather_of_integers_computes_in_integers() -> None:
    text = (
        """<ir_version: 8, opset_import: ["" : 17]> g (int64[4] x, int64[2] i) => (int64[2] y) { y = Gather (x, i) }"""
    )
    (layer,) = forecast(Graph(onnx.parser.parse_model(text)), "m").layers
    assert layer.precision == "INT64"


@pytest.mark.parametrize("op", ["HardSwish", "Mish", "PRelu"])
def test_an_activation_of_one_operator_fuses_like_the_same_in_nodes(op: str) -> None:
    slope = "k" if op == "PRelu" else ""
    text = f"""g (float[1,4,16,16] x) => (float[1,4,16,16] y) <float[4,1,1] k = {{0.1, 0.2, 0.3, 0.4}}> {{
        a = t.conv4 (x, s1) r = {op} (a{", " + slope if slope else ""}) y = t.conv4 (r, s2) }}"""
    layers = forecast_layers(text, opset=18)
    assert names(layers)[1:] == [["Conv", op], ["Conv"]]
    assert types(layers[1]) == "INT8 -> INT8"


REFUSED = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <int8 three = {3}> {
    q = QuantizeLinear (x, s1, three) d = DequantizeLinear (q, s1, three) a = Relu (d) y = t.conv4 (a, s2) }"""


def test_a_file_that_tensorrt_refuses_has_no_forecast_but_a_sentence_with_the_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, saved = tmp_path / "m.onnx", tmp_path / "engine.json"
    onnx.save(model_of(REFUSED), file)
    assert main(["engine", "forecast", str(file), "-o", str(saved)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and not saved.exists()
    assert "TensorRT 10.2 to 10.16 refuses m.onnx:" in captured.err and "QDQ401" in captured.err
    assert "no engine to forecast" in captured.err


def test_a_comparison_with_such_a_file_and_a_drawing_of_it_say_that_no_such_engine_exists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, fixed = tmp_path / "m.onnx", tmp_path / "fixed.onnx"
    onnx.save(model_of(REFUSED), file)
    assert main(["fix", str(file), "-o", str(fixed), "--no-numerics", "--no-config"]) == 0
    capsys.readouterr()
    main(["engine", "diff", str(file), str(fixed)])
    said = capsys.readouterr().out
    assert "note on m.onnx: no such engine exists: TensorRT 10.2 to 10.16 refuses m.onnx\n" in said
    assert "QDQ401" not in said
    main(["engine", "diff", str(file), str(fixed), "-v"])
    assert "QDQ401" in capsys.readouterr().out
    assert "1 of 1 weighted layers in INT8" in said
    assert main(["engine", "draw", str(file), "-o", str(tmp_path / "m.svg")]) == 0
    assert "no such engine exists" in capsys.readouterr().err


def test_a_forecast_with_fewer_weighted_layers_in_int8_is_worse_whatever_its_bytes() -> None:
    quantized, plain = (
        forecast(
            Graph(model_of(f"g (float[1,4,16,16] x) => (float[1,4,16,16] y) {{ a = {a} y = t.conv4 (a, s2) }}")), "m"
        )
        for a in ("t.conv4 (x, s1)", "Relu (x)")
    )
    assert diff(quantized, plain).worse == "it runs 1 of 1 weighted layers in INT8 instead of 2"

"""Layers and times in the logs that people post: each dialect after a public one, with shortened lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdqgraph.cli.main import main
from qdqgraph.engines.layers import Engine, Tensor
from qdqgraph.engines.read.saved import open_engine
from qdqgraph.errors import EngineError
from tests.support.paths import DATA

VERBOSE_7 = """
[TensorRT] VERBOSE: Layer(PointWiseV2): LeakyRelu_20, Tactic: 27, 156[Int8(256,52,52)] -> 157[Int8(256,52,52)]
[TensorRT] VERBOSE: Layer(i8816cudnn): Conv_21, Tactic: -182858804213663094, 157[Int8(256,52,52)] -> 159[Int8(128,52,52)]
"""
"""TensorRT 7, Python logger, implicit batch: NVIDIA/TensorRT#1179."""

VERBOSE_8 = """
[01/10/2024-21:55:12] [V] [TRT] >>>>>>>>>>>>>>> Chose Runner Type: Myelin Tactic: 0x0000000000000000
[01/10/2024-21:55:12] [V] [TRT] Engine Layer Information:

Layer(Myelin): {ForeignNode[/head/Constant.../head/Unsqueeze_6]}, Tactic: 0x0000000000000000,  -> /head/T[Float(2,126)], (Unnamed Layer* 689) [Shuffle]_output[Float(1,1,1)]

Layer(Reformat): /conv/_input_quantizer/QuantizeLinear, Tactic: 0x00000000000003ea, images[Float(1,3,64,96)] -> q[Int8(1,3,64,96)]
Layer(CaskConvolution): w + /conv/_weight_quantizer/QuantizeLinear + /conv/Conv + PWN(PWN(/s/Sigmoid), /s/Mul), Tactic: 0x02d9f5211e4d2d82, q[Int8(1,3,64,96)] -> (Unnamed Layer* 1) [Shuffle]_output[Int8(1,32,32,48)]
Layer(Reformat): Reformatting CopyNode for Input Tensor 1 to /cat/Concat, Tactic: 1002, a[Half(-6,256,-8,1)], b[Half(2,2)] -> c[Float(-6,256,-8,1)]
Layer(NoOp): (Unnamed Layer* 2) [Shuffle], Tactic: 0, c[Float(-6,256,-8,1)] -> y[Float(-6,256,-8)]
[01/10/2024-21:55:12] [V] [TRT] Total per-runner device persistent memory is 130560
"""
"""TensorRT 8.2 to 8.4: names and ways of writing after several public logs."""

VERBOSE_10 = """
[04/18/2025-03:52:06] [V] [TRT] Engine Layer Information:
Layer(Myelin): {ForeignNode[/encoder/Unsqueeze_3 + /encoder/Unsqueeze_4.../Squeeze]}, Tactic: 0x0000000000000000, ids (Int32[1,40]), mask (Bool[1,40]) -> Reformatted Output Tensor 0 to {ForeignNode[/encoder/Unsqueeze_3 + /encoder/Unsqueeze_4.../Squeeze]} (Half[1])
Layer(Reformat): Reformatting CopyNode for Input Tensor 0 to /conv2/Conv + /relu2/Relu, Tactic: 0x0000000000000000, /relu1/Relu_output_0 (Int8[4,72:32,128,192]) -> Reformatted Input Tensor 0 to /conv2/Conv + /relu2/Relu (Int8[4,72:4,128,192])
"""
"""TensorRT 8.5 to 10.x: NVIDIA/TensorRT#4397, with vectors of channels as in a practitioner's log of 8.6."""

DETAILED = """
[01/10/2024-21:55:13] [I] Layers:

Name: /conv/_input_quantizer/QuantizeLinear, LayerType: Reformat, Inputs: [ { Name: images, Location: Device, Dimensions: [1,3,64,96], Format/Datatype: Row major linear FP32 }], Outputs: [ { Name: q, Location: Device, Dimensions: [1,3,64,96], Format/Datatype: Row major Int8 format }], ParameterType: Reformat, Origin: QDQ, TacticValue: 0x00000000000003ea

Name: w + /conv/_weight_quantizer/QuantizeLinear + /conv/Conv, LayerType: CaskConvolution, Inputs: [ { Name: q, Location: Device, Dimensions: [1,3,64,96], Format/Datatype: Row major Int8 format }], Outputs: [ { Name: (Unnamed Layer* 3) [Shuffle]_output, Location: Device, Dimensions: [1,32,32,48], Format/Datatype: Thirty-two wide channel vectorized row major Int8 format }], ParameterType: Convolution, Kernel: [3,3], PaddingMode: kEXPLICIT_ROUND_DOWN, Groups: 1, Weights: {"Type": "Int8", "Count": 864}, Activation: RELU, HasBias: 1, TacticName: ampere_first_layer_filter3x3_imma_fwd, TacticValue: 0x9ae0c0d2fb3a01e5
    # Name: __myl_AddMul_myl0_68, LayerType: kgen, Inputs: [ { Name: __myln_k_arg__bb1_72, Dimensions: [1,40,256], Format/Datatype: Half }, { Name: __mye55934_69, Dimensions: [1,40,256], Format/Datatype: Half }], Outputs: [ { Name: out, Dimensions: [1,40,256], Format/Datatype: Half }], TacticName: __myl_AddMul_0xf254, StreamId: 0, Metadata: [ONNX Layer: /mha/Add][ONNX Layer: /ln, a: b]
Name: {ForeignNode[a...b]}, LayerType: Myelin, Inputs: [], Outputs: [ { Name: Reformatted Output Tensor 0 to {ForeignNode[a...b]}, Location: Device, Dimensions: [], Format/Datatype: Row major linear FP32 }], TacticName: , StreamId: 0, Metadata: 

Bindings:
images
"""
"""--dumpLayerInfo and detailed build logs, TensorRT 8.4 to 10.x: NVIDIA/TensorRT#4397, docs of Torch-TensorRT, blogs."""

TABLE = """
[04/26/2024-00:42:55] [I] === Profile (2206 iterations ) ===
[04/26/2024-00:42:55] [I]    Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer
[04/26/2024-00:42:55] [I]       56.57       0.0255       0.0256       1.8   w + /conv/_weight_quantizer/QuantizeLinear + /conv/Conv
[04/26/2024-00:42:55] [I]       12.00       0.0100       0.0100       1.0   /conv/_input_quantizer/QuantizeLinear
[04/26/2024-00:42:55] [I]     3093.17       0.8968       0.8960     100.0   Total
"""
OLD_TABLE = """
[07/06/2023-17:19:08] [I]                                    Layer   Time (ms)   Avg. Time (ms)   Time %
[07/06/2023-17:19:08] [I]  /conv/_input_quantizer/QuantizeLinear       33.99           0.0852      1.1
[07/06/2023-17:19:08] [I]                                    Total       33.99           0.0852    100.0
"""
NAMES = """
[05/07/2022-10:00:00] [I] Layer Information:
[05/07/2022-10:00:00] [I] Layers:
Conv__25 + Relu
Reformatting CopyNode for Output Tensor 0 to MaxPool2d
/conv/_input_quantizer/QuantizeLinear

Bindings:
x:0
"""


def read(text: str, folder: Path) -> Engine:
    file = folder / "build.log"
    file.write_text(text)
    return open_engine(file)


def test_the_list_of_tensorrt_7(tmp_path: Path) -> None:
    act, conv = read(VERBOSE_7, tmp_path).layers
    assert (act.kind, act.nodes, act.precision) == ("PointWiseV2", ("LeakyRelu_20",), "INT8")
    assert conv.outputs == (Tensor("159", (128, 52, 52), "INT8"),)


def test_the_verbose_list_of_tensorrt_8(tmp_path: Path) -> None:
    found = read(VERBOSE_8, tmp_path)
    assert [x.kind for x in found.layers] == ["Myelin", "Reformat", "CaskConvolution", "Reformat", "NoOp"]
    assert [x.cause for x in found.layers] == ["", "Q/DQ", "", "type", ""]
    head, quantize, conv, copy, _ = found.layers
    assert head.inputs == () and [t.name for t in head.outputs] == ["/head/T", "(Unnamed Layer* 689) [Shuffle]_output"]
    assert quantize.bytes == 3 * 64 * 96 * 5
    assert conv.nodes == ("w", "/conv/Conv", "/s/Sigmoid", "/s/Mul")
    assert conv.outputs[0].name == "(Unnamed Layer* 1) [Shuffle]_output"
    assert copy.inputs[1].dims == (2, 2) and copy.inputs[0].dims == (-1, 256, -1, 1)
    assert any("dynamic" in note for note in found.notes)


def test_the_verbose_list_since_tensorrt_8_5_has_the_vector_width_of_channels(tmp_path: Path) -> None:
    myelin, copy = read(VERBOSE_10, tmp_path).layers
    assert [(t.name, t.precision) for t in myelin.inputs] == [("ids", "INT32"), ("mask", "BOOL")]
    assert myelin.nodes == ("/encoder/Unsqueeze_3", "/encoder/Unsqueeze_4", "/Squeeze")
    assert (copy.cause, copy.inputs[0].dims) == ("layout", (4, 72, 128, 192))
    assert [t.layout for t in (*copy.inputs, *copy.outputs)] == ["CHW32", "CHW4"]


def test_the_detailed_list_has_what_the_json_has(tmp_path: Path) -> None:
    found = read(DETAILED, tmp_path)
    quantize, conv, kgen, foreign = found.layers
    assert (quantize.cause, quantize.fields["Origin"]) == ("Q/DQ", "QDQ")
    assert (conv.precision, conv.nodes, conv.tactic) == (
        "INT8",
        ("w", "/conv/Conv"),
        "ampere_first_layer_filter3x3_imma_fwd",
    )
    assert conv.fields["Weights"] == {"Type": "Int8", "Count": 864} and conv.fields["Kernel"] == [3, 3]
    assert conv.outputs == (Tensor("(Unnamed Layer* 3) [Shuffle]_output", (1, 32, 32, 48), "INT8", "CHW32"),)
    assert (kgen.nodes, kgen.precision) == (("/mha/Add", "/ln, a: b"), "FP16")
    assert foreign.outputs[0].name == "Reformatted Output Tensor 0 to {ForeignNode[a...b]}" and not foreign.inputs


def test_text_and_json_of_one_engine_are_read_alike(tmp_path: Path) -> None:
    """The recorded JSON, written as the inspector's one-line format."""
    rows = json.loads((DATA / "qat.graph.json").read_text())["Layers"]

    def value(content: object) -> str:
        return content if isinstance(content, str) else json.dumps(content)

    def tensors(given: list[dict[str, object]]) -> str:
        return ", ".join("{ " + ", ".join(f"{k}: {value(v)}" for k, v in t.items()) + " }" for t in given)

    lines = [
        ", ".join(
            f"{key}: [ {tensors(content)}]" if key in ("Inputs", "Outputs") else f"{key}: {value(content)}"
            for key, content in row.items()
        )
        for row in rows
    ]
    found, expected = read("[V] [TRT] Layers:\n" + "\n".join(lines), tmp_path), open_engine(DATA / "qat.graph.json")
    assert [x.fields for x in found.layers] == [x.fields for x in expected.layers]
    assert [(x.nodes, x.inputs, x.outputs, x.precision, x.cause) for x in found.layers] == [
        (x.nodes, x.inputs, x.outputs, x.precision, x.cause) for x in expected.layers
    ]


def test_a_log_with_a_profile_has_times(tmp_path: Path) -> None:
    found = read(DETAILED + TABLE, tmp_path)
    assert [x.time_ms for x in found.layers] == [0.01, 0.0255, None, None]
    assert "the layers are from a log" in found.notes


@pytest.mark.parametrize("table", [TABLE, OLD_TABLE])
def test_a_profile_may_be_a_log_too(table: str, tmp_path: Path) -> None:
    (tmp_path / "profile.log").write_text(table)
    (tmp_path / "layers.log").write_text(DETAILED)
    found = open_engine(tmp_path / "layers.log", profile=tmp_path / "profile.log")
    assert found.layers[0].time_ms == (0.01 if table is TABLE else 0.0852)


def test_names_in_a_log_are_read_with_the_profile_in_it(tmp_path: Path) -> None:
    found = read(NAMES + OLD_TABLE, tmp_path)
    assert [x.cause for x in found.layers] == ["", "unknown", "Q/DQ"]
    assert found.time_ms == 0.0852
    with pytest.raises(EngineError, match="layer names only; give a profile"):
        read(NAMES, tmp_path)


def test_of_several_lists_the_last_of_the_most_detailed_counts(tmp_path: Path) -> None:
    assert len(read(VERBOSE_8 + DETAILED, tmp_path).layers) == 4
    assert len(read(DETAILED + VERBOSE_8, tmp_path).layers) == 4
    assert len(read(VERBOSE_8 + VERBOSE_10, tmp_path).layers) == 2


def test_a_line_that_is_cut_off_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "build.log"
    for line in (DETAILED.splitlines()[3][:200], "Layer(Reformat): a, Tactic: 0, b -> c[Float(1)"):
        file.write_text(f"Layers:\n{line}\n")
        assert main(["engine", "read", str(file)]) == 2
        said = capsys.readouterr().err
        assert "this line of the layer list has an unknown format" in said and str(file) in said


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_log_is_read_or_refused_and_never_crashes(tmp_path: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([VERBOSE_7, VERBOSE_8, VERBOSE_10, DETAILED + TABLE, NAMES + OLD_TABLE]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    try:
        read(text[:start] + data.draw(st.text("[](){}:,-> \nAZ09", max_size=8)) + text[end:], tmp_path)
    except EngineError as error:
        assert str(error).startswith(str(tmp_path))

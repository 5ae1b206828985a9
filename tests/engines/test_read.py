"""What trtexec exports, read: every version's words, hostile files, and NVIDIA's own engines to the figure."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdqgraph.cli.main import main
from qdqgraph.engines.layers import Engine
from qdqgraph.engines.read import formats, jsonfile, names
from qdqgraph.engines.read.layer_info import engine_of, runs, timed
from qdqgraph.engines.read.saved import open_engine, to_json
from qdqgraph.errors import EngineError
from tests.support.paths import DATA, NVIDIA


def layer(**more: Any) -> dict[str, Any]:
    return {"Name": "a", "LayerType": "CaskConvolution", "Inputs": [], "Outputs": [], **more}


def tensor(name: str, form: str, dims: tuple[int, ...] = (1, 8, 4, 4)) -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": list(dims), "Format/Datatype": form}


def engine(*layers: dict[str, Any], **top: Any) -> Engine:
    return engine_of({"Layers": list(layers), **top}, "e", place="e.json")


@pytest.mark.parametrize(
    ("name", "layers", "reformats", "size", "ms"),
    [
        ("fp16", 25, 2, 441_870_336, 1.017),
        ("qat", 35, 12, 589_493_248, 1.096),
        ("qat-residual", 25, 3, 190_559_232, 0.731),
    ],
)
def test_nvidias_engines_have_the_totals_that_trex_prints(
    name: str, layers: int, reformats: int, size: int, ms: float
) -> None:
    """The figures are those of trex 0.2.1: len(plan.df), plan.total_act_size, plan.total_runtime."""
    if not NVIDIA.is_dir():
        pytest.skip("the whole engines are not here")
    found = open_engine(NVIDIA / f"{name}.graph.json")
    assert (len(found.working), len(found.reformats)) == (layers, reformats)
    assert (found.bytes, round(found.time_ms or 0, 3)) == (size, ms)


def test_views_and_constants_are_no_work() -> None:
    """The parts of NVIDIA's engines in this repository, by trex 0.2.1: layers, bytes, ms."""
    totals = {}
    for name in ("qat", "qat-residual"):
        found = open_engine(DATA / f"{name}.graph.json")
        totals[name] = len(found.working), found.bytes, round(found.time_ms or 0, 4)
    assert totals == {"qat": (20, 503_591_936, 0.7731), "qat-residual": (15, 144_798_720, 0.5038)}


def test_a_consumer_of_a_view_reads_what_the_view_shows() -> None:
    conv = layer(Name="conv", Outputs=[tensor("c", "Int8")])
    view = layer(Name="view", LayerType="NoOp", Inputs=[tensor("c", "Int8")], Outputs=[tensor("v", "Int8")])
    again = layer(Name="again", LayerType="NoOp", Inputs=[tensor("v", "Int8")], Outputs=[tensor("w", "Int8")])
    constant = layer(Name="k", LayerType="Constant", Outputs=[tensor("k", "Int8")])
    add = layer(Name="add", LayerType="ElementWise", Inputs=[tensor("w", "Int8"), tensor("k", "Int8")])
    found = engine(conv, view, again, constant, add)
    assert [(a, b) for a, b, _ in found.edges] == [(0, 4)]
    assert found.bytes == 3 * 8 * 4 * 4


def test_views_in_a_circle_have_no_producer() -> None:
    first = layer(Name="a", LayerType="NoOp", Inputs=[tensor("y", "Int8")], Outputs=[tensor("x", "Int8")])
    second = layer(Name="b", LayerType="NoOp", Inputs=[tensor("x", "Int8")], Outputs=[tensor("y", "Int8")])
    assert engine(first, second, layer(Name="c", Inputs=[tensor("y", "Int8")])).edges == ()


def test_an_engine_of_8x_says_what_it_computes_in_and_why_it_copies() -> None:
    found = open_engine(DATA / "qat.graph.json")
    by_name = {x.name: x for x in found.layers}
    first = by_name["conv1.weight + QuantizeLinear_7 + Conv_9"]
    assert (first.precision, first.nodes, first.quantizers) == (
        "INT8",
        ("conv1.weight", "Conv_9"),
        ("QuantizeLinear_7",),
    )
    assert first.outputs[0].precision == "FP32", "an INT8 convolution that writes float"
    assert first.bytes == 32 * 3 * 224 * 224 + 32 * 64 * 112 * 112 * 4
    assert found.causes == Counter({"Q/DQ": 6, "type": 1, "layout": 1})
    assert by_name["Reformatting CopyNode for Output Tensor 0 to MaxPool_12"].cause == "type"
    assert by_name["Reformatting CopyNode for Input Tensor 0 to GlobalAveragePool_246"].cause == "layout"
    assert first.time_ms == 0.201728
    assert first.fields["Activation"] == "RELU", "a field that nothing here knows survives"


def test_10x_metadata_names_the_nodes_whatever_the_layer_is_called() -> None:
    kgen = layer(
        Name="__myl_ResTraAdd_myl0_5",
        LayerType="kgen",
        Inputs=[tensor("x", "Half")],
        Outputs=[tensor("y", "Half")],
        Metadata="[ONNX Layer: /a/Add]\x1e[ONNX Layer: /q/QuantizeLinear]\x1e[ONNX Layer: /b/Conv [2]]",
    )
    (found,) = engine(kgen).layers
    assert (found.nodes, found.quantizers) == (("/a/Add", "/b/Conv [2]"), ("/q/QuantizeLinear",))
    assert (found.precision, found.cause) == ("FP16", "")


def test_11x_has_a_field_for_format_and_type_in_either_spelling_and_objects_for_io() -> None:
    for spelling in ("DataType", "Datatype"):
        put = {
            "Name": "x",
            "Dimensions": [1, 32, 8, 8],
            "Format": "Thirty-two wide channel vectorized row major",
            spelling: "Int8",
        }
        found = engine(layer(Inputs=[put]), **{"I/O Tensors": [{"Name": "x", "IOMode": "Input", "DataType": "Float"}]})
        (read,) = found.layers[0].inputs
        assert (read.precision, read.layout, found.bindings) == ("INT8", "CHW32", ("x",))


def test_a_myelin_kernel_that_only_quantizes_is_a_reformat_and_its_convolution_is_not_counted_twice() -> None:
    quantize = layer(
        Name="k", LayerType="kgen", Inputs=[tensor("x", "Float")], Outputs=[tensor("q", "Int8")],
        Metadata="[ONNX Layer: in/QuantizeLinear][ONNX Layer: conv]",
    )  # fmt: skip
    conv = layer(
        Name="c", LayerType="correlation", Inputs=[tensor("q", "Int8")], Outputs=[tensor("acc", "Float")],
        Metadata="[ONNX Layer: conv]",
    )  # fmt: skip
    epilogue = layer(
        Name="e", LayerType="kgen", Inputs=[tensor("acc", "Float")], Outputs=[tensor("y", "Int8")],
        Metadata="[ONNX Layer: conv][ONNX Layer: out/QuantizeLinear]",
    )  # fmt: skip
    found = engine(quantize, conv, epilogue).layers
    assert [x.cause for x in found] == ["Q/DQ", "", ""], "an epilogue belongs to its convolution"
    assert [x.nodes for x in found] == [(), ("conv",), ()]


def test_a_myelin_kernel_that_only_dequantizes_is_a_reformat_also_after_an_int8_product() -> None:
    def after(form: str, kind: str, metadata: str) -> str:
        product = layer(Name="g", LayerType=kind, Inputs=[tensor("q", "Int8")], Outputs=[tensor("m", form)],
                        Metadata="[ONNX Layer: /fc/MatMul]")  # fmt: skip
        last = layer(Name="k", LayerType="kgen", Inputs=[tensor("m", form)], Outputs=[tensor("y", "Half")],
                     Metadata=metadata)  # fmt: skip
        return engine(product, last).layers[1].cause

    dequantizes, quantizes = "[ONNX Layer: /out/DequantizeLinear]", "[ONNX Layer: /out/QuantizeLinear]"
    assert after("Int8", "gemm", dequantizes) == "Q/DQ", "the product has already quantized its output"
    assert after("Int32", "gemm", dequantizes) == "Q/DQ", "and a DQ alone is no epilogue of sums either"
    assert after("Float", "correlation", dequantizes) == "Q/DQ"
    assert after("Int8", "gemm", dequantizes + quantizes) == "Q/DQ", "a requantization"
    assert after("Float", "correlation", quantizes) == "", "an epilogue quantizes the sums"


def test_precision_is_told_by_weights_then_tactic_then_input() -> None:
    half_in = [tensor("x", "Row major linear FP16 format")]
    weights = layer(Inputs=half_in, Weights={"Type": "Int8", "Count": 9}, TacticName="sm80_f16f16_f16f16_f16")
    pool = layer(Inputs=half_in, LayerType="ConvActPool", ConvWeights={"Type": "Int8", "Count": 9})
    tactic = layer(Inputs=half_in, TacticName="sm80_xmma_fprop_implicit_gemm_interleaved_i8f16_i8i32_f32_nchw")
    plain = layer(Inputs=half_in, Name="int8_conv")
    assert [x.precision for x in engine(weights, pool, tactic, plain).layers] == ["INT8", "INT8", "INT8", "FP16"]


@pytest.mark.parametrize(
    ("prose", "expected"),
    [
        ("Row major linear FP32", ("FP32", "linear")),
        ("Row major Int8 format", ("INT8", "linear")),
        ("Thirty-two wide channel vectorized row major Int8 format", ("INT8", "CHW32")),
        ("Two wide channel vectorized row major FP16 format", ("FP16", "CHW2")),
        ("Channel major FP16 format where channel % 8 == 0", ("FP16", "HWC8")),
        ("Half", ("FP16", "")),
        ("BFloat16", ("BF16", "")),
        ("Some new FP16 arrangement", ("FP16", "Some new arrangement")),
        ("N/A due to dynamic shapes", ("?", "N/A due to dynamic shapes")),
    ],
)
def test_prose_for_formats(prose: str, expected: tuple[str, str]) -> None:
    assert formats.split(prose) == expected


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("w + QuantizeLinear_7 + Conv_9 + PWN(Clip_13)", ("w", "Conv_9")),
        ("PWN(PWN(/m/Sigmoid), /m/Mul)", ("/m/Sigmoid", "/m/Mul")),
        ("Conv_45 || Conv_52", ("Conv_45", "Conv_52")),
        ("{ForeignNode[/a/MatMul.../b/Add]}", ("/a/MatMul", "/b/Add")),
        ("{ForeignNode[/a/Add + /a/Relu.../b/Add]}", ("/a/Add", "/a/Relu", "/b/Add")),
        ("{ForeignNode[a...b]} + c", ("a", "b", "c")),
        ("Conv_9 [profile 1]", ("Conv_9",)),
        ("/cat/Concat_3 copy", ("/cat/Concat_3",)),
        ("Reformatting CopyNode for Input Tensor 0 to Conv_9", ()),
        ("copied_squeeze_after_(Unnamed Layer* 307) [ElementWise]", ()),
    ],
)
def test_old_versions_tell_the_nodes_in_the_layers_name(name: str, nodes: tuple[str, ...]) -> None:
    expected = ("w", "Conv_9", "Clip_13") if "PWN(Clip" in name else nodes
    assert names.of_layer(name, "")[0] == expected


def test_times_are_given_in_order_where_a_name_repeats() -> None:
    found = engine(layer(Name="copy"), layer(Name="conv"), layer(Name="copy"))
    profile = [{"count": 1}, *({"name": n, "averageMs": t} for n, t in (("copy", 1), ("conv", 5), ("copy", 2)))]
    assert [x.time_ms for x in timed(found, profile, "p.json").layers] == [1, 5, 2]


def test_only_the_first_optimization_profile_counts() -> None:
    found = engine(layer(Name="a"), layer(Name="a [profile 1]"), layer(Name="a [profile 10]"))
    assert [x.name for x in found.layers] == ["a"]
    assert "several optimization profiles" in found.notes[0]


def test_a_tensor_name_that_is_used_again_is_read_from_the_last_that_wrote_it() -> None:
    def step(name: str, read: str, write: str) -> dict[str, Any]:
        return layer(Name=name, Inputs=[tensor(read, "Half")], Outputs=[tensor(write, "Half")])

    found = engine(step("a", "in", "t"), step("b", "t", "u"), step("c", "u", "t"), step("d", "t", "out"))
    assert [(a, b) for a, b, _ in found.edges] == [(0, 1), (1, 2), (2, 3)]


def test_run_times_are_medians() -> None:
    rows = [{"computeMs": c, "latencyMs": c + 1} for c in (1.0, 9.0, 2.0)]
    assert runs(rows, "t.json").compute_ms == 2.0
    assert runs(rows, "t.json").latency_ms == 3.0


def test_a_saved_engine_comes_back_whole(tmp_path: Path) -> None:
    found = open_engine(DATA / "qat.graph.json")
    file = tmp_path / "e.json"
    file.write_text(to_json(found))
    assert open_engine(file) == found


@pytest.mark.parametrize("number", ["-Infinity", "NaN", "1e999"])
def test_numbers_that_are_not_finite_become_null(tmp_path: Path, number: str) -> None:
    file = tmp_path / "layers.json"
    file.write_text(
        f'{{"Layers": [{{"Name": "a", "LayerType": "Reformat", "TacticValue": {number}}}], "Bindings": []}}'
    )
    (layer,) = json.loads(to_json(open_engine(file)))["layers"]
    assert layer["fields"]["TacticValue"] is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"Layers": ["a", "b"]}', "--profilingVerbosity=detailed"),
        ('[{"count": 1}, {"name": "a"}]', "give it with --profile"),
        ('[{"computeMs": 1, "latencyMs": 2}]', "engine read LAYERS.json --times"),
        ("[]", "not layer info"),
        ('{"Layers": [{"Name": "a", "Inputs"', "was the export interrupted?"),
        ("Layers: nothing", "this is not JSON"),
        ("[" * 200_000, "nested too deeply"),
        ('{"Layers": [{"Name": 3}]}', "Layers[0].Name: Expected `str`, got `int`"),
        ('{"Layers": [{"Name": "a", "Inputs": [7]}]}', "Layers[0].Inputs[0]: Expected `object`, got `int`"),
        ('{"Layers": {"a": 1}}', "Layers: Expected `array`, got `object`"),
        ('{"Layers": [' + "1," * 2_100_000 + "1]}", "more than 2,000,000 values"),
        (
            '{"Layers": [' + "9" * 10_000 + "]}",
            "this is not layer info of an engine: an integer has thousands of digits",
        ),
        ('{"Layers": [' + '{"Name":"a"},' * 100_000 + '{"Name":"a"}]}', "no engine has more than 100,000"),
        (
            '{"schema": "urn:qdqgraph:engine:2", "layers": [], "name": 5}',
            "this saved engine is damaged: name: Expected `str`, got `int`",
        ),
        (
            '{"schema": "urn:qdqgraph:engine:2", "layers": [], "names": "e"}',
            "damaged: Object missing required field `name`",
        ),
        (
            '{"schema": "urn:qdqgraph:engine:2", "name": "e", "source": "s"}',
            "damaged: Object missing required field `layers`",
        ),
        (
            '{"schema": "urn:qdqgraph:engine:2", "name": "e", "source": "s", "layers": [{}]}',
            "damaged: layers[0]: Object missing",
        ),
        ('{"schema": "urn:qdqgraph:engine:9"}', "this qdqgraph reads urn:qdqgraph:engine:2"),
    ],
)
def test_a_bad_file_is_one_clear_sentence(
    content: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "layers.json"
    file.write_text(content)
    assert main(["engine", "read", str(file)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert str(file) in said.err
    assert len(said.err) < 500 and not said.out


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "layers.json"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 36)
    with pytest.raises(EngineError, match="larger than 64 MiB"):
        jsonfile.load(file, "layer info")


@pytest.mark.parametrize("cut", range(0, 17_900, 997))
def test_a_truncated_export_is_refused(cut: int, tmp_path: Path) -> None:
    file = tmp_path / "layers.json"
    file.write_bytes((DATA / "qat.graph.json").read_bytes()[:cut])
    with pytest.raises(EngineError):
        open_engine(file)


def test_layer_names_alone_are_read_with_a_profile(tmp_path: Path) -> None:
    """The form that trtexec 8.4 writes without detailed verbosity (trt-samples-for-hackathon-cn, issue 18)."""
    names_only = [
        "Reformatting CopyNode for Input Tensor 0 to w + QuantizeLinear_7 + Conv_9",
        "w + QuantizeLinear_7 + Conv_9",
        "DequantizeLinear_11",
        "/cat/Concat copy",
    ]
    (tmp_path / "e.json").write_text(json.dumps({"Layers": names_only, "Bindings": ["x", "y"]}))
    rows = [{"count": 10}, *({"name": n, "averageMs": i + 1.0} for i, n in enumerate(names_only))]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    found = open_engine(tmp_path / "e.json", profile=tmp_path / "p.json")
    assert [x.cause for x in found.layers] == ["unknown", "", "Q/DQ", "copy"]
    assert found.layers[1].nodes == ("w", "Conv_9") and found.bindings == ("x", "y")
    assert (found.time_ms, found.bytes) == (10.0, 0)
    assert "layer names only: no tensors, types or bytes" in found.notes[0]
    assert open_engine_of(found, tmp_path) == found, "it can be saved"


def open_engine_of(found: Engine, folder: Path) -> Engine:
    (folder / "saved.json").write_text(to_json(found))
    return open_engine(folder / "saved.json")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_anywhere_is_read_or_refused_and_never_crashes(tmp_path: Path, data: st.DataObject) -> None:
    content = json.loads((DATA / "qat-residual.graph.json").read_text())
    place: Any = content
    while True:
        step = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[step], dict | list) or not place[step] or data.draw(st.integers(0, 4)) == 0:
            break
        place = place[step]
    place[step] = data.draw(VALUES)
    file = tmp_path / "layers.json"
    file.write_text(json.dumps(content))
    try:
        assert open_engine(file).layers is not None
    except EngineError as error:
        assert str(error).startswith(str(file))


def test_the_command_prints_figures_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "engine.json"
    graph = DATA / "qat.graph.json"
    assert main(["engine", "read", str(graph), "--profile", str(DATA / "qat.profile.json"), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "20 kernels, 8 reformats" in said
    assert "reformats by cause: Q/DQ 6, type 1, layout 1" in said
    assert open_engine(out).reformats
    assert main(["engine", "read", str(graph), "-o", str(out)]) == 2, "an existing file stays"
    assert "--force" in capsys.readouterr().err


def test_a_profile_of_another_engine_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "p.json"
    other.write_text('[{"count": 1}, {"name": "x", "averageMs": 1}]')
    assert main(["engine", "read", str(DATA / "qat.graph.json"), "--profile", str(other)]) == 2
    assert "belongs to another engine" in capsys.readouterr().err

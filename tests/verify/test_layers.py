"""The error of each layer: alone from float inputs, and accumulated; what is beside it; what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

import qdqgraph
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.cli.main import main
from qdqgraph.model.runtime import run
from qdqgraph.verify.layers import LayerRow
from tests.support.cases import FOLDER
from tests.support.cases import model as case
from tests.support.halves import sandwiched
from tests.support.models import build

MODEL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float fine = {0.02}> {
    a = Relu (x)  b = t.conv4 (a, s1)  c = Tanh (b)  y = t.conv4 (c, fine) }"""
"""Two layers, b and y; Tanh reads no pair."""
WEIGHTS = np.random.default_rng(4).integers(-100, 100, (4, 4)) * 0.01
"""Of `t.conv4`, dequantized."""


def samples(count: int = 3) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"x": random.normal(0, 5, (1, 4, 8, 8)).astype(np.float32)} for _ in range(count)]


def convolved(values: np.ndarray) -> np.ndarray:
    return np.einsum("oi,ni...->no...", WEIGHTS, values)


def rounded(values: np.ndarray, scale: float) -> np.ndarray:
    return np.clip(np.rint(values / np.float32(scale)), -128, 127) * np.float32(scale)


def tensor(model: onnx.ModelProto, name: str, feeds: list[dict[str, np.ndarray]]) -> np.ndarray:
    """A tensor of a model in ONNX Runtime, for all samples."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return np.concatenate([outputs[0] for outputs in run(shown, feeds, Path())])


def rows(found: qdqgraph.Accuracy) -> dict[str, LayerRow]:
    return {row.layer: row for row in found.layers}


def test_errors_alone_and_accumulated_are_those_computed_by_hand() -> None:
    model, feeds = build(MODEL), samples()
    found = rows(qdqgraph.error(model, feeds))
    a = np.maximum(np.concatenate([feed["x"] for feed in feeds]), 0).astype(np.float64)
    b = convolved(a)
    c = np.tanh(b)
    exact = {"b": b, "y": convolved(c)}
    alone = {"b": convolved(rounded(a, 0.1)), "y": convolved(rounded(c, 0.02))}
    for name, reference in exact.items():
        whole = tensor(model, name, feeds)
        for error, value in ((found[name].alone, alone[name]), (found[name].accumulated, whole)):
            noise = value - reference
            assert error.sqnr == pytest.approx(10 * np.log10((reference**2).sum() / (noise**2).sum()), abs=0.01)
            assert error.largest == pytest.approx(np.abs(noise).max(), rel=1e-3)
            norms = np.sqrt((reference**2).sum() * (value**2).sum())
            assert error.cosine == pytest.approx((reference * value).sum() / norms, abs=1e-6)
    assert found["b"].alone.sqnr == pytest.approx(found["b"].accumulated.sqnr, abs=1e-6)
    assert found["y"].alone.sqnr > found["y"].accumulated.sqnr + 1


def test_layers_without_pairs_are_not_listed_and_the_worst_is_first() -> None:
    for fine, order in ((0.02, ["b", "y"]), (0.5, ["y", "b"]), (0.001, ["y", "b"])):
        found = qdqgraph.error(build(MODEL.replace("0.02", str(fine))), samples())
        assert [row.layer for row in found.layers] == order, fine
        assert found.layers[0].alone.sqnr < found.layers[1].alone.sqnr


def test_scales_and_clipped_shares_are_those_of_the_inputs() -> None:
    feeds = samples()
    found = rows(qdqgraph.error(build(MODEL), feeds))
    a = np.maximum(np.concatenate([feed["x"] for feed in feeds]), 0)
    (read,) = found["b"].inputs
    share = np.mean(a / np.float32(0.1) > 127.5)
    assert share > 0 and read.clipped == pytest.approx(share)
    assert read.site == "a" and read.scale == pytest.approx(0.1)
    assert [i.clipped for i in found["y"].inputs] == [0], "tanh is below 127 * 0.02"


def test_a_layer_with_values_that_are_not_finite_comes_first() -> None:
    model = build(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] z) <float zero = {0.0}> {
        y = t.conv4 (x, s1)  a = Relu (x)  b = t.pair (a, s2)  d = Div (b, zero)  z = Identity (d) }"""
    )
    first = qdqgraph.error(model, samples()).layers[0]
    assert first.layer == "d" and np.isnan(first.alone.sqnr)


def test_findings_and_bytes_are_beside_their_layer() -> None:
    model = build(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
        a = Relu (x)  b = t.conv4 (a, s1)  c = t.conv4 (a, s2)  d = Add (b, c)  y = t.conv4 (d, s3) }"""
    )
    found = rows(qdqgraph.error(model, samples()))
    assert "QDQ104" in found["b"].findings and "QDQ104" in found["c"].findings and "QDQ104" not in found["y"].findings
    assert all(row.bytes > 0 for row in found.values())
    only = qdqgraph.error(model, samples(), qdqgraph.rules(select=["QDQ3"]))
    assert all("QDQ104" not in row.findings for row in only.layers)


def test_a_layer_names_the_sites_that_share_its_scale() -> None:
    """MaxPool ties its input and output; the scale comes from the larger one."""
    model = build(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
        a = t.pair (x, s1)  b = MaxPool <kernel_shape = [1, 1]> (a)  c = t.conv4 (b, s2)  y = t.conv4 (c, s3) }"""
    )
    found = rows(qdqgraph.error(model, samples()))
    groups = {name: [(i.site, i.group.name, i.group.sites) for i in row.inputs] for name, row in found.items()}
    assert groups == {"b": [("x", "b", 2)], "c": [("b", "b", 2)], "y": [("c", "c", 1)]}


def test_the_score_of_a_task_is_printed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(
        "import numpy as np\n"
        "def score(run):\n"
        "    x = np.load('data.npz')['x']\n"
        "    return float(np.mean([np.abs(run({'x': one[None]})['y']).sum() for one in x]))\n"
        "def broken(run):\n    return run({'other': 1})\n"
    )
    command = ["error", "model.onnx", "--data", "data.npz", "--no-config", "--eval"]
    assert main([*command, "mine.py:score", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)["score"]
    model = build(MODEL)
    for name, net in (("quantized", model), ("unquantized", float_model(model, Path()).model)):
        assert score[name] == pytest.approx(np.mean([np.abs(o[0]).sum() for o in run(net, samples(), Path())]))
    assert score["difference"] == pytest.approx(score["quantized"] - score["unquantized"])
    assert main([*command, "mine.py:score"]) == 0
    assert f"score {score['unquantized']:.6g} in float" in capsys.readouterr().out
    assert main([*command, "mine.py:broken"]) == 2
    assert "--eval mine.py:broken failed with the" in capsys.readouterr().err


def test_in_opset_23_weights_have_the_type_that_their_dequantizelinear_writes() -> None:
    """FP32 scales, and an FP16 network through `output_dtype`; the float network has FP16 weights."""
    model = case(FOLDER.joinpath("38-opset23-mixed.onnxtxt").read_text(encoding="utf-8"))
    network = float_model(model, Path()).model
    onnx.checker.check_model(network, full_check=True)
    assert {t.data_type for t in network.graph.initializer} == {onnx.TensorProto.FLOAT16}
    random = np.random.default_rng(0)
    found = qdqgraph.error(model, [{"x": random.normal(0, 1, (1, 8, 16, 16)).astype(np.float16)}])
    assert len(found.layers) > 2 and not found.skipped
    assert all(10 < row.alone.sqnr < 80 for row in found.layers)


def test_a_half_precision_model_is_measured() -> None:
    model = qdqgraph.to_fp16(build(MODEL), data=samples()).model
    assert any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)
    single, half = rows(qdqgraph.error(build(MODEL), samples())), rows(qdqgraph.error(model, samples()))
    assert set(single) == set(half)
    for name, row in single.items():
        assert half[name].alone.sqnr == pytest.approx(row.alone.sqnr, abs=0.5)


def test_with_a_reference_the_error_includes_that_of_the_weights() -> None:
    random = np.random.default_rng(1)
    moved = WEIGHTS + random.uniform(-0.0049, 0.0049, WEIGHTS.shape)
    numbers = ", ".join(map(str, moved.reshape(-1)))
    reference = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,8,8] x) => (float[1,4,8,8] y)
        <float[4,4,1,1] w = {{{numbers}}}> {{ a = Relu (x)  b = Conv (a, w)  c = Tanh (b)  y = Conv (c, w) }}"""
    )
    without, with_it = (rows(qdqgraph.error(build(MODEL), samples(), reference=r)) for r in (None, reference))
    a = np.maximum(np.concatenate([feed["x"] for feed in samples()]), 0)
    exact = np.einsum("oi,ni...->no...", moved, a)
    noise = convolved(rounded(a, 0.1)) - exact
    assert with_it["b"].alone.sqnr == pytest.approx(10 * np.log10((exact**2).sum() / (noise**2).sum()), abs=0.01)
    assert with_it["b"].alone.sqnr < without["b"].alone.sqnr


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with model.onnx and data.npz."""
    monkeypatch.chdir(tmp_path)
    onnx.save(build(MODEL), "model.onnx")
    np.savez("data.npz", x=np.concatenate([feed["x"] for feed in samples()]))
    return tmp_path


def test_the_command_prints_what_the_call_returns(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["error", "model.onnx", "--data", "data.npz", "--no-config"]
    found = qdqgraph.error("model.onnx", "data.npz")
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [layer["layer"] for layer in shown["layers"]] == [row.layer for row in found.layers] == ["b", "y"]
    assert shown["layers"][0]["alone"]["sqnr_db"] == found.layers[0].alone.sqnr
    assert main([*command, "--format", "csv", "--samples", "3"]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(line["layer"], float(line["sqnr_accumulated_db"])) for line in lines] == [
        (row.layer, row.accumulated.sqnr) for row in found.layers
    ]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert f"{found.layers[0].alone.sqnr:.1f}" in text and "2 layers on 3 samples of data.npz" in text


FLOAT = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = Relu (x) }"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.onnx"], "give them with --data"),
        (["model.onnx", "--data", "absent.npz"], "absent.npz"),
        (["model.onnx", "--data", "wide.npz"], "wide.npz"),
        (["float.onnx", "--data", "data.npz"], "no QuantizeLinear or DequantizeLinear"),
        (["unread.onnx", "--data", "data.npz"], "no node of the model reads an activation"),
        (["model.onnx", "--data", "data.npz", "--reference", "float.onnx"], "none of the 2 quantized weights"),
        (["model.onnx", "--data", "data.npz", "--samples", "9"], "9 were asked for"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(
    words: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("wide.npz", x=np.zeros((1, 4, 8, 9), np.float32))
    onnx.save(build(FLOAT), "float.onnx")
    onnx.save(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.pair (x, s1) }"), "unread.onnx")
    files = set(place.iterdir())
    assert main(["error", *words, "--no-config"]) == 2
    out, err = capsys.readouterr()
    assert said in err and err.startswith("qdqgraph: ") and len(err.splitlines()) == 1 and not out
    assert set(place.iterdir()) == files


def test_an_interrupt_leaves_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(
        "import numpy as np\ndef data():\n    yield {'x': np.ones((1, 4, 8, 8), 'f')}\n    raise KeyboardInterrupt\n"
    )
    files = set(place.iterdir())
    assert main(["error", "model.onnx", "--data", "mine.py:data", "--no-config"]) == 130
    out, err = capsys.readouterr()
    assert not out and "interrupted" in err
    assert {p for p in place.iterdir() if p.name != "__pycache__"} == files


def test_casts_around_pairs_change_no_error() -> None:
    """The form in which pytorch-quantization exports half precision: FP32 scales, Casts around each pair."""
    model = sandwiched(build(MODEL))
    assert any(node.op_type == "Cast" for node in model.graph.node)
    single, half = rows(qdqgraph.error(build(MODEL), samples())), rows(qdqgraph.error(model, samples()))
    assert set(half) == set(single)
    for name, row in single.items():
        assert half[name].alone.sqnr == pytest.approx(row.alone.sqnr, abs=0.5)
        assert half[name].accumulated.sqnr == pytest.approx(row.accumulated.sqnr, abs=0.5)


def test_a_layer_with_a_computed_scale_is_skipped_with_the_reason() -> None:
    model = build(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float steps = {127.0}> {
        a = ReduceMax <keepdims = 0> (x)  s = Div (a, steps)  b = t.conv4 (x, s)  y = t.conv4 (b, s1) }"""
    )
    found = qdqgraph.error(model, samples())
    assert [row.layer for row in found.layers] == ["y"]
    assert list(found.skipped) == ["b"] and "is computed at run time" in found.skipped["b"]


def test_the_clipping_of_a_pair_whose_axis_the_tensor_lacks_is_unknown() -> None:
    """ONNX Runtime refuses to run the pair, onnx.checker does not refuse the file."""
    model = build("""g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4] s = {0.1, 0.1, 0.1, 0.1}, int8[4] z = {0, 0, 0, 0}> {
        q = QuantizeLinear <axis = 4> (x, s, z) d = DequantizeLinear <axis = 4> (q, s, z) y = t.conv4 (d, s1) }""")
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(qdqgraph.ModelError, match="onnxruntime cannot run the network"):
        qdqgraph.error(model, samples())


def test_external_data_under_a_name_that_no_file_can_have_get_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build(MODEL)
    tensor = next(t for t in model.graph.initializer if t.name == "s1")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="x" * 5000)
    path, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    path.write_bytes(model.SerializeToString())
    np.savez(data, x=samples(1)[0]["x"])
    assert main(["error", str(path), "--data", str(data)]) == 2
    assert "internal error" not in (said := capsys.readouterr().err) and "x" * 50 in said

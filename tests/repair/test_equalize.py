"""`fix --equalize` and `quantize --equalize`: channels of unequal range, what held-back samples decide, undo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

import qdqgraph
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.cli.main import main
from qdqgraph.errors import CalibrationError, ModelError
from qdqgraph.model.runtime import run
from qdqgraph.repair.corrections import Gain
from tests.support.imbalance import CHAIN, RATIOS, arrays, filled, normal, quantized
from tests.support.marks import unmarked

EVEN = np.ones(8)
HELD = normal(seed=1)


def sqnr(model: onnx.ModelProto, exact: onnx.ModelProto) -> float:
    """Of the outputs on samples that nothing was computed from, in dB."""
    got, true = (run(m, HELD, Path()) for m in (model, exact))
    noise = sum(((a[0] - b[0]).astype(np.float64) ** 2).sum() for a, b in zip(got, true, strict=True))
    return float(10 * np.log10(sum((b[0].astype(np.float64) ** 2).sum() for b in true) / noise))


def same_outputs(model: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    a, b = (run(m, HELD, Path()) for m in (model, other))
    return all(np.array_equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one, two, strict=True))


def chain(ratios: np.ndarray = RATIOS) -> onnx.ModelProto:
    return filled(CHAIN, arrays(ratios))


@pytest.mark.parametrize("method", ["auto", "max"])
def test_quantize_gains_what_unequal_channels_cost(method: str) -> None:
    model = chain()
    given: dict[str, Any] = {"data": normal(), "calibrate": method}
    plain, result = qdqgraph.quantize(model, **given), qdqgraph.quantize(model, equalize=True, **given)
    assert sqnr(result.model, model) > sqnr(plain.model, model) + 10
    (done,) = result.corrections
    assert done.name == "equalization" and done.kept and done.examined == 1 and done.gain is not None
    assert [(c.upstream, c.layer) for c in done.layers] == [("a", "y")] and done.layers[0].after > done.layers[0].before
    assert done.gain.after - done.gain.before > 10 > done.gain.noise
    assert [n.op_type for n in result.model.graph.node] == [n.op_type for n in plain.model.graph.node]
    even = qdqgraph.quantize(chain(EVEN), **given)
    assert sqnr(result.model, model) > sqnr(even.model, chain(EVEN)) - 2


@pytest.mark.parametrize("stored", [False, True], ids=["float weights", "integers and a reference"])
def test_fix_equalizes_a_quantized_file(stored: bool) -> None:
    model, exact = quantized(), chain()
    given: dict[str, Any] = {"data": normal()}
    if stored:
        model, given["reference"] = qdqgraph.fix(model, weights="int8").model, exact
    plain, result = qdqgraph.fix(model, **given), qdqgraph.fix(model, equalize=True, numerics=True, **given)
    assert result.corrections[0].kept and sqnr(result.model, exact) > sqnr(plain.model, exact) + 10
    assert result.numbers is not None and result.numbers.outputs["y"].sqnr > 15
    if not stored:
        assert same_outputs(float_model(result.model, Path()).model, exact)
    (change,) = [c for c in result.changes if c.site == "r"]
    assert change.own == pytest.approx(0.1) or stored


def test_integers_of_unknown_origin_stay_and_are_named() -> None:
    model = qdqgraph.fix(quantized(), weights="int8").model
    result = qdqgraph.fix(model, data=normal(), equalize=True)
    (done,) = result.corrections
    assert (done.examined, done.layers, done.gain, done.kept) == (0, (), None, False)
    assert any("left out 1 layer pair" in note and "as reference" in note for note in result.notes)
    plain = qdqgraph.fix(model, data=normal()).model
    assert unmarked(result.model) == unmarked(plain)


def test_weights_int8_sees_the_float_weights() -> None:
    result = qdqgraph.fix(quantized(), data=normal(), equalize=True, weights="int8")
    assert result.corrections[0].kept
    assert [n.op_type for n in result.model.graph.node].count("QuantizeLinear") == 2


def test_channels_of_one_range_stay() -> None:
    result = qdqgraph.quantize(chain(EVEN), data=normal(), equalize=True)
    (done,) = result.corrections
    assert done.examined == 1 and not done.layers and not done.kept
    assert unmarked(result.model) == unmarked(qdqgraph.quantize(chain(EVEN), data=normal()).model)


def test_integers_of_a_depthwise_layer_stay_because_its_scales_take_the_factors() -> None:
    text = CHAIN.replace("y = Conv (r, v)", "y = Conv <group = 8> (r, v)").replace(
        "float[1,4,8,8] y", "float[1,8,8,8] y"
    )
    own = arrays()
    own["v"] = (own["v"][:1] * RATIOS.reshape(1, 8, 1, 1)).reshape(8, 1, 1, 1) / RATIOS.reshape(8, 1, 1, 1)
    exact = filled(text, {name: array.astype(np.float32) for name, array in own.items()})
    model = qdqgraph.quantize(exact, data=normal()).model
    result = qdqgraph.fix(model, data=normal(), equalize=True)
    assert result.corrections[0].kept and not result.notes
    assert sqnr(result.model, exact) > sqnr(model, exact) + 10
    assert same_outputs(float_model(result.model, Path()).model, float_model(model, Path()).model)
    before, after = ({i.raw_data for i in m.graph.initializer if i.data_type == 3} for m in (model, result.model))
    assert before == after


def test_one_scale_of_the_first_weights_becomes_one_per_channel() -> None:
    model = quantized()
    for tensor in model.graph.initializer:
        if tensor.name in ("ws", "wz"):
            array = onnx.numpy_helper.to_array(tensor).max()
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(array), tensor.name))
    result = qdqgraph.fix(model, data=normal(), equalize=True, calibrate="entropy")  # which keeps scales of weights
    assert result.corrections[0].kept and same_outputs(float_model(result.model, Path()).model, chain())


def test_factors_of_one_half_that_do_not_help_the_other_one_are_not_kept() -> None:
    """Channels that are small in the one half of the samples are large in the other."""
    random = np.random.default_rng(0)
    eye, weights = np.eye(4).reshape(4, 4, 1, 1), random.normal(size=(4, 4, 1, 1))
    constants = {"w": np.pad(eye, ((0, 0), (0, 0), (1, 1), (1, 1))), "v": weights, "b": np.zeros(4)}
    model = filled(CHAIN, {name: array.astype(np.float32) for name, array in constants.items()})
    small = np.array([1, 0.02, 0.02, 0.02], np.float32).reshape(1, 4, 1, 1)
    data = [{"x": each["x"] * (1.02 - small if index % 2 else small)} for index, each in enumerate(normal())]
    result = qdqgraph.quantize(model, data=data, equalize=True)
    (done,) = result.corrections
    assert len(done.layers) == 1 and done.gain is not None
    assert done.gain.after < done.gain.before and not done.kept
    assert unmarked(result.model) == unmarked(qdqgraph.quantize(model, data=data).model)


@pytest.mark.parametrize(("after", "pays"), [(20.0, False), (20.4, False), (20.6, True)])
def test_the_gain_must_exceed_its_standard_error(after: float, pays: bool) -> None:
    assert Gain(20.0, after, 0.5, strict=True).pays is pays
    assert Gain(20.0, after, 0.5).pays


@pytest.mark.parametrize(
    "more",
    [{}, {"fp16": True}, {"bias_correction": True, "round_weights": True}],
    ids=["alone", "FP16", "corrections"],
)
@pytest.mark.parametrize("floats", [True, False], ids=["quantize", "fix"])
def test_undo_and_the_same_command_twice(more: dict[str, Any], floats: bool) -> None:
    model = chain() if floats else quantized()
    before = model.SerializeToString()
    call: Any = qdqgraph.quantize if floats else qdqgraph.fix
    result = call(model, data=normal(), equalize=True, **more)
    assert result.corrections[0].name == "equalization" and result.corrections[0].kept
    assert len(result.corrections) == (3 if "round_weights" in more else 1)
    assert result.plan.apply(model).SerializeToString() == result.model.SerializeToString()
    assert result.plan.inverse().apply(result.model).SerializeToString() == before
    again = qdqgraph.fix(result.model, data=normal(), equalize=True, **more)
    assert again.model.SerializeToString() == result.model.SerializeToString() and not again.plan.edits


def test_other_data_leave_equal_channels() -> None:
    result = qdqgraph.fix(quantized(), data=normal(), equalize=True, calibrate="max")
    again = qdqgraph.fix(result.model, data=normal(seed=5), equalize=True, calibrate="max")
    assert [c.kept for c in again.corrections] == [False]


def test_except_leaves_a_layer_or_the_tensor_between() -> None:
    for glob in ("a", "y", "r"):
        result = qdqgraph.fix(quantized(), data=normal(), equalize=True, skip=(glob,))
        assert result.corrections[0].examined == 0


def test_corrected_biases_are_taken_back_first() -> None:
    first = qdqgraph.fix(quantized(), data=normal(), bias_correction=True)
    assert first.corrections[0].kept
    result = qdqgraph.fix(first.model, data=normal(), bias_correction=True, equalize=True)
    assert result.corrections[0].kept and sqnr(result.model, chain()) > sqnr(first.model, chain()) + 10
    assert same_outputs(float_model(result.model, Path()).model, chain())
    assert not result.notes


def test_statistics_are_kept_of_the_given_network(tmp_path: Path) -> None:
    path = tmp_path / "statistics.npz"
    results = [qdqgraph.quantize(chain(), data=normal(), equalize=True, statistics=path) for _ in range(2)]
    assert results[0].corrections[0].kept and results[0].model == results[1].model
    assert qdqgraph.quantize(chain(), ranges=path).model.graph.node


def test_constants_that_are_inputs_too_as_in_old_files() -> None:
    model = chain()
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model.ir_version = 3
    result = qdqgraph.quantize(model, data=normal(), equalize=True)
    assert result.corrections[0].kept and sqnr(result.model, model) > 30
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()


def test_external_data(tmp_path: Path) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(chain(), path, save_as_external_data=True, location="data", size_threshold=0)
    for given in (path, onnx.load(path, load_external_data=False)):
        result = qdqgraph.quantize(
            given, data=normal(), equalize=True, bias_correction=True, folder=tmp_path, output=out, force=True
        )
        assert result.corrections[0].kept and sqnr(onnx.load(out), chain()) > 30


def test_what_cannot_be_done_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, table = quantized(), tmp_path / "table.json"
    table.write_text('{"x": [-1.0, 1.0]}')
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "computed on samples of the inputs: give data"),
        ({"data": normal(), "exact": True}, "exact repairs do not"),
        ({"data": normal(), "keep_scales": True}, "must be measured"),
        ({"data": normal(), "calibrate": "none"}, "must be measured"),
        ({"data": normal(), "ranges": table}, "must be measured"),
    ]
    for given, message in cases:
        with pytest.raises(ModelError, match=message):
            qdqgraph.fix(model, equalize=True, **given)
    with pytest.raises(CalibrationError, match="4 samples or more"):
        qdqgraph.fix(model, data=normal(3), equalize=True)
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.concatenate([f["x"] for f in normal()]))
    command = ["fix", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "o.onnx"), "--equalize"]
    data = ["--data", str(tmp_path / "d.npz")]
    for more, message in (
        ([], "give them with --data"),
        ([*data, "--exact"], "not --exact"),
        ([*data, "--keep-scales"], "omit --keep-scales"),
        ([*data, "--ranges", str(table)], "omit --ranges"),
        ([*data, "--calibrate", "none"], "omit --calibrate none"),
    ):
        assert main([*command, *more]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "o.onnx").exists()


def test_text_and_json_report_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(chain(), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.concatenate([f["x"] for f in normal()]))
    command = ["quantize", str(tmp_path / "m.onnx"), "--dry-run", "--data", str(tmp_path / "d.npz"), "--equalize"]
    assert main([*command, "--no-numerics"]) == 0
    assert "1 of 1 layer pair; outputs" in " ".join(capsys.readouterr().out.split())
    assert main([*command, "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["corrections"]
    assert record["name"] == "equalization" and record["kept"]
    assert [(each["upstream"], each["layer"]) for each in record["layers"]] == [("a", "y")]
    assert record["outputs"]["after_db"] > record["outputs"]["before_db"] + record["outputs"]["noise_db"]

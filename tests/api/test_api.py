"""The calls: what the command line can do, one call can do, with the same options and the same result."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.cli import main
from qdqgraph.rulekit import Graph, pairs
from tests.support.commands import MODEL
from tests.support.models import build


def test_fix_and_the_command_write_the_same_files(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones((1, 4, 8, 8), np.float32))
    words = [
        "--plan",
        tmp_path / "a.json",
        "--data",
        tmp_path / "data.npz",
        "--max-bits-lost",
        "0.5",
        "--policy",
        "output",
    ]
    assert main(["fix", str(model), "-o", str(tmp_path / "a.onnx"), "--json", "--no-config", *map(str, words)]) == 0
    said = json.loads(capsys.readouterr().out)
    result = qdqgraph.fix(
        model,
        output=tmp_path / "b.onnx",
        plan=tmp_path / "b.json",
        numerics=True,
        data=tmp_path / "data.npz",
        max_bits_lost=0.5,
        policy="output",
    )
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert result.numbers is not None
    assert said["numeric_check"]["outputs"]["y"]["sqnr_db"] == result.numbers.outputs["y"].sqnr
    assert said["left"] == [] and result.left == ()


def test_samples_can_be_arrays(model: Path) -> None:
    sample = {"x": np.random.default_rng(0).uniform(-1, 1, (1, 4, 8, 8)).astype(np.float32)}
    result = qdqgraph.fix(model, numerics=True, data=[sample, sample])
    assert result.numbers is not None and (result.numbers.samples, result.numbers.data) == (2, True)


def test_samples_can_come_from_a_function_and_also_measure_ranges(model: Path) -> None:
    def load_data() -> list[dict[str, np.ndarray]]:
        return [{"x": np.full((1, 4, 8, 8), size, np.float32)} for size in (1, 1e5)]

    result = qdqgraph.fix(model, numerics=True, data=load_data, samples=1)
    assert result.numbers is not None and (result.numbers.samples, result.numbers.source) == (1, "load_data")
    assert not qdqgraph.to_fp16(result.model, data=load_data, samples=1).kept
    assert qdqgraph.to_fp16(result.model, data=load_data).kept


def test_a_plan_goes_there_and_back(model: Path, tmp_path: Path) -> None:
    result = qdqgraph.fix(model, plan=tmp_path / "plan.json")
    applied = qdqgraph.apply(tmp_path / "plan.json", model, output=tmp_path / "applied.onnx")
    assert applied == result.model == onnx.load(tmp_path / "applied.onnx")
    assert qdqgraph.undo(result.plan, applied, output=tmp_path / "undone.onnx") == onnx.load(model)
    assert (tmp_path / "undone.onnx").read_bytes() == model.read_bytes()
    assert qdqgraph.diff(model, result.model) and not qdqgraph.diff(model, tmp_path / "undone.onnx")


def test_check_prices_findings(model: Path) -> None:
    (found,) = (f for f in qdqgraph.check(model) if f.code == "QDQ104")
    assert found.bytes > 0


def test_fix_and_check_say_the_same_of_what_remains(model: Path) -> None:
    result = qdqgraph.fix(model, max_bits_lost=0.1)
    assert result.left and result.left == qdqgraph.check(result.model, max_bits_lost=0.1).findings


def test_check_names_what_other_targets_alone_would_meet() -> None:
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")
    model.opset_import[0].version = 18
    found = qdqgraph.check(model, other_targets=True)
    assert [(f.code, f.target) for f in found] == [("QDQ413", "trt-8.6")]
    assert not qdqgraph.check(model)
    assert [(f.code, f.target) for f in qdqgraph.check(model, target="trt-8.6")] == [("QDQ413", "")]


def test_why_and_rules_by_selector(model: Path) -> None:
    answer = qdqgraph.why("tensor-quantized-twice", model, "a")
    assert answer.applies and "QDQ104" in answer.lines[0]
    assert [rule.code for rule in qdqgraph.rules(select=["QDQ1"], ignore=["QDQ102"])] == [
        "QDQ101",
        "QDQ103",
        "QDQ104",
        "QDQ105",
        "QDQ106",
        "QDQ107",
    ]
    with pytest.raises(qdqgraph.RuleError, match="no rule matches 'QDQ999'"):
        qdqgraph.rules(select=["QDQ999"])


def test_engines_are_forecast_compared_and_saved(model: Path) -> None:
    before, after = qdqgraph.forecast(model), qdqgraph.forecast(qdqgraph.fix(model).model)
    assert before.bytes > after.bytes and len(before.layers) >= len(after.layers)
    found = qdqgraph.compare(model, after)
    assert found.different and not found.worse
    assert qdqgraph.compare(after, model).worse
    assert not qdqgraph.compare(before, replace(before, name="again")).different


def test_a_call_does_not_touch_the_model_it_is_given() -> None:
    model = build(MODEL)
    before = model.SerializeToString()
    qdqgraph.fix(model, fp16=True, numerics=True)
    qdqgraph.strip(model, ["d"])
    assert model.SerializeToString() == before
    assert len(list(pairs(Graph(model)))) > 2

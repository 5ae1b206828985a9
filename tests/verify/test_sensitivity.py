"""Sensitivity: which unit is worst, what off and on mean, what a run continues, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

import qdqgraph
from qdqgraph.calibration.agreement import agreement
from qdqgraph.calibration.sqnr import EXACT
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.cli.main import main
from qdqgraph.model.runtime import run
from qdqgraph.verify.scores import Run
from qdqgraph.verify.sensitivity import By
from qdqgraph.verify.sensitivity.ranking import Mode
from tests.support.models import build
from tests.support.paths import ROOT

CHAIN = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float coarse = {BAD}, float fine = {0.008}> {
    a = Relu (x)  b = t.conv4 (a, s1)  c = Tanh (b)  d = t.conv4 (c, coarse)  e = Tanh (d)  y = t.conv4 (e, fine) }"""
"""Three layers, b, d and y; the scale of d's input fits its values if it is 0.008."""
BAD = CHAIN.replace("BAD", "0.3")
"""With a scale for d's input that leaves three integers."""


def samples(count: int = 3) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"x": random.normal(0, 4, (1, 4, 8, 8)).astype(np.float32)} for _ in range(count)]


def sqnr(model: onnx.ModelProto, reference: onnx.ModelProto) -> float:
    found, exact = (run(m, samples(), Path()) for m in (model, reference))
    return agreement([o[0] for o in exact], [o[0] for o in found]).sqnr


@pytest.mark.parametrize("by", ["group", "block", "layer"])
@pytest.mark.parametrize("mode", ["off", "on", "both"])
def test_the_layer_with_a_bad_scale_is_first(by: By, mode: Mode) -> None:
    found = qdqgraph.sensitivity(build(BAD), samples(), by=by, mode=mode)
    assert len(found.units) == found.total == 3 and found.units[0].layers == ("d",)
    good = qdqgraph.sensitivity(build(CHAIN.replace("BAD", "0.008")), samples(), by=by, mode=mode)
    assert good.units[0].layers != ("d",), "it is the scale, not the place"


def test_off_is_what_strip_gains() -> None:
    model = build(BAD)
    found = qdqgraph.sensitivity(model, samples())
    exact = float_model(model, Path()).model
    assert found.quantized.sqnr_db == pytest.approx(sqnr(model, exact), abs=1e-6)
    for unit in found.units:
        stripped = qdqgraph.strip(model, unit.layers).model
        assert unit.off is not None and unit.gain is not None
        assert unit.off.sqnr_db == pytest.approx(sqnr(stripped, exact), abs=1e-3)
        assert unit.off.sqnr_db is not None and found.quantized.sqnr_db is not None
        assert unit.gain == pytest.approx(unit.off.sqnr_db - found.quantized.sqnr_db)
        saved = qdqgraph.forecast(stripped).bytes - qdqgraph.forecast(model).bytes
        assert unit.bytes == saved


def test_on_is_the_network_with_everything_else_stripped() -> None:
    model = build(BAD)
    found = qdqgraph.sensitivity(model, samples(), mode="on")
    exact = float_model(model, Path()).model
    for unit in found.units:
        others = [layer for layer in ("b", "d", "y") if layer not in unit.layers]
        alone = qdqgraph.strip(model, others).model
        assert unit.on is not None and unit.gain is None
        assert unit.on.sqnr_db == pytest.approx(sqnr(alone, exact), abs=1e-3)


def test_of_one_layer_off_is_the_float_network_and_on_the_quantized_one() -> None:
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }")
    found = qdqgraph.sensitivity(model, samples(), mode="both")
    (unit,) = found.units
    assert unit.off is not None and unit.on is not None and unit.gain is not None
    assert unit.off.sqnr_db == EXACT and unit.off.outputs_db == {"y": EXACT}
    assert unit.on == found.quantized and unit.cost == 1
    assert found.quantized.sqnr_db is not None and 10 < found.quantized.sqnr_db < 60
    assert unit.gain == EXACT - found.quantized.sqnr_db


def test_a_unit_is_a_group_a_block_or_a_layer() -> None:
    """Two layers read one site; the residual Add fuses with its convolution."""
    model = build(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
        a = Relu (x)  p = t.pair (a, s1)  b = t.conv4 (a, s1)  c = Add (b, p)  y = Relu (c) }"""
    )
    ways: tuple[By, ...] = ("group", "block", "layer")
    layers = {by: [unit.layers for unit in qdqgraph.sensitivity(model, samples(1), by=by).units] for by in ways}
    assert layers["group"] == [("b", "c")] and layers["block"] == [("b", "c")]
    assert sorted(layers["layer"]) == [("b",), ("c",)]


def test_several_outputs_count_alike_and_integers_do_not() -> None:
    model = build(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] z, int64[1,1,8,8] best) {
        y = t.conv4 (x, s1)  z = t.conv4 (x, s3)  best = ArgMax <axis = 1> (y) }"""
    )
    found = qdqgraph.sensitivity(model, samples(), by="layer")
    assert set(found.quantized.outputs_db) == {"y", "z"}
    for unit in found.units:
        assert unit.off is not None
        (own,) = unit.layers
        other = {"y": "z", "z": "y"}[own]
        assert unit.off.outputs_db == {own: EXACT, other: found.quantized.outputs_db[other]}
        assert unit.off.sqnr_db == sum(unit.off.outputs_db.values()) / 2


def test_values_that_are_not_finite_count_as_the_worst() -> None:
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = t.conv4 (x, s1)  b = t.pair (a, s2)  y = Log (b) }")
    found = qdqgraph.sensitivity(model, samples(), by="layer")
    assert found.quantized.sqnr_db == -EXACT


def test_the_score_of_a_task_ranks_the_units() -> None:
    model = build(BAD)
    exact = float_model(model, Path()).model

    def score(network: Run) -> float:
        values = [network(feed)["y"] for feed in samples()]
        return -float(
            np.mean([np.square(v - e[0]).mean() for v, e in zip(values, run(exact, samples(), Path()), strict=True)])
        )

    found = qdqgraph.sensitivity(model, evaluate=score, mode="both")
    assert found.units[0].layers == ("d",) and found.samples == 0 and found.quantized.sqnr_db is None
    assert found.unquantized.score == pytest.approx(0, abs=1e-9)
    for unit in found.units:
        assert unit.off is not None and unit.on is not None and found.quantized.score is not None
        assert unit.off.score is not None and unit.gain == unit.off.score - found.quantized.score
        assert unit.on.score is not None and found.unquantized.score is not None
        assert unit.cost == found.unquantized.score - unit.on.score
    both = qdqgraph.error(model, samples(), evaluate=score)
    assert both.scores is not None and both.scores.quantized == pytest.approx(found.quantized.score)
    assert both.scores.difference == both.scores.quantized - both.scores.unquantized < 0


SCORE = """
import os, time
from pathlib import Path
import numpy as np
def data():
    random = np.random.default_rng(0)
    for _ in range(3):
        yield {"x": random.normal(0, 4, (1, 4, 8, 8)).astype("f")}
def score(run):
    calls = Path("calls")
    count = int(calls.read_text()) + 1 if calls.exists() else 1
    calls.write_text(str(count))
    stop = os.environ.get("STOP")
    if stop and count == 4:  # float, quantized, one unit
        if stop == "interrupt":
            raise KeyboardInterrupt
        Path("waiting").touch()
        time.sleep(600)
    return float(sum(np.abs(run(feed)["y"]).sum() for feed in data()))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with model.onnx, data.npz and mine.py."""
    monkeypatch.chdir(tmp_path)
    onnx.save(build(BAD), "model.onnx")
    np.savez("data.npz", x=np.concatenate([feed["x"] for feed in samples()]))
    Path("mine.py").write_text(SCORE)
    return tmp_path


COMMAND = ["sensitivity", "model.onnx", "--data", "data.npz", "--no-config", "-o", "parts.json"]
SCORED = [*COMMAND, "--eval", "mine.py:score"]


def test_a_killed_run_continues_to_the_same_file(place: Path) -> None:
    assert main(SCORED) == 0
    whole = Path("parts.json").read_bytes()
    Path("parts.json").unlink()
    Path("calls").unlink()
    environment = {**os.environ, "STOP": "wait", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-m", "qdqgraph", *SCORED], env=environment) as process:
        end = time.monotonic() + 300
        while not Path("waiting").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        assert process.poll() is None and Path("waiting").exists()
        process.kill()
    assert json.loads(Path("parts.json").read_text())["total"] == 3
    assert len(json.loads(Path("parts.json").read_text())["units"]) == 1
    assert main(["strip", "model.onnx", "--from", "parts.json", "--top", "1", "-o", "out.onnx", "--no-config"]) == 2
    Path("calls").write_text("9")
    assert main(SCORED) == 0
    assert Path("parts.json").read_bytes() == whole
    assert Path("calls").read_text() == "11", "the two units that were missing were measured, and nothing else"


def test_an_interrupted_run_says_how_to_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STOP", "interrupt")
    assert main(SCORED) == 130
    assert "interrupted, 1 of 3 units are in parts.json; the same command continues" in capsys.readouterr().err
    monkeypatch.delenv("STOP")
    assert main(SCORED) == 0
    assert len(json.loads(Path("parts.json").read_text())["units"]) == 3


def test_a_complete_file_is_printed_without_measuring(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SCORED) == 0
    first, calls = capsys.readouterr().out, Path("calls").read_text()
    assert main(SCORED) == 0
    assert capsys.readouterr().out == first and Path("calls").read_text() == calls
    assert main([*SCORED, "--force"]) == 0
    assert int(Path("calls").read_text()) == 2 * int(calls)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["other.onnx", "--data", "data.npz"], "another model"),
        (["model.onnx", "--data", "data.npz", "--samples", "2"], "other samples"),
        (["model.onnx", "--data", "data.npz", "--by", "layer"], "--by group"),
        (["model.onnx", "--data", "data.npz", "--mode", "on"], "--mode off"),
        (["model.onnx", "--data", "data.npz", "--eval", "mine.py:score"], "another function of --eval"),
        (["model.onnx", "--data", "data.npz", "--target", "trt-8.6"], "--target"),
    ],
)
def test_a_file_of_another_run_is_refused_and_kept(
    words: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMMAND) == 0
    before = Path("parts.json").read_bytes()
    onnx.save(build(CHAIN.replace("BAD", "0.2")), "other.onnx")
    capsys.readouterr()
    command = ["sensitivity", *words, "--no-config", "-o", "parts.json"]
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert said in err and "--force" in err and len(err.splitlines()) == 1 and not out
    assert Path("parts.json").read_bytes() == before
    assert main([*command, "--force"]) == 0
    assert Path("parts.json").read_bytes() != before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.onnx"], "give --data, --eval, or both"),
        (["float.onnx", "--data", "data.npz"], "no QuantizeLinear or DequantizeLinear"),
        (["model.onnx", "--data", "data.npz", "-o", "parts.txt"], ".json or .csv"),
        (["model.onnx", "--data", "data.npz", "-o", "mine.json"], "is not a file of `qdqgraph sensitivity`"),
        (["model.onnx", "--data", "data.npz", "-o", "absent/parts.json"], "absent does not exist"),
        (["model.onnx", "--data", "data.npz", "--eval", "bad.py:text"], "return one number"),
        (["model.onnx", "--data", "data.npz", "--eval", "bad.py:nothing"], "return a finite number"),
        (["model.onnx", "--data", "data.npz", "--eval", "bad.py:absent"], "has no 'absent'"),
        (["model.onnx", "--data", "data.npz", "--reference", "float.onnx"], "none of the 3 quantized weights"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(
    words: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = Relu (x) }"), "float.onnx")
    Path("mine.json").write_text('{"units": []}')
    Path("bad.py").write_text("def text(run): return 'good'\ndef nothing(run): return float('nan')\n")
    files = {path for path in place.iterdir() if path.name != "__pycache__"}
    assert main(["sensitivity", *words, "--no-config"]) == 2
    out, err = capsys.readouterr()
    assert said in err and err.startswith("qdqgraph: ") and len(err.splitlines()) == 1 and not out
    assert {path for path in place.iterdir() if path.name != "__pycache__"} == files


def test_the_command_prints_what_the_call_returns(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = qdqgraph.sensitivity("model.onnx", "data.npz", mode="both")
    command = ["sensitivity", "model.onnx", "--data", "data.npz", "--mode", "both", "--no-config"]
    assert main([*command, "--json"]) == 0
    assert capsys.readouterr().out == found.to_json()
    assert main([*command, "--format", "csv", "-o", "parts.csv"]) == 0
    shown = capsys.readouterr().out
    assert Path("parts.csv").read_text() == shown
    assert qdqgraph.Sensitivity.read(Path("parts.json")) == found
    lines = list(csv.DictReader(shown.splitlines()))
    assert [(line["layers"], float(line["gain"]), int(line["bytes"])) for line in lines] == [
        (" ".join(unit.layers), unit.gain, unit.bytes) for unit in found.units
    ]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert f"{found.units[0].gain:+.2f}" in text and "3 units on 3 samples of data.npz" in text


def test_strip_takes_the_worst_units_of_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMAND) == 0
    found = qdqgraph.Sensitivity.read(Path("parts.json"))
    worst = [layer for unit in found.units[:2] for layer in unit.layers]
    strip = ["strip", "model.onnx", "--no-config", "--no-provenance", "-o"]
    assert main([*strip, "nodes.onnx", "--nodes", *worst]) == 0
    assert main([*strip, "top.onnx", "--from", "parts.json", "--top", "2"]) == 0
    assert Path("top.onnx").read_bytes() == Path("nodes.onnx").read_bytes()
    assert main([*strip, "least.onnx", "--from", "parts.json", "--min-gain", str(found.units[1].gain)]) == 0
    assert Path("least.onnx").read_bytes() == Path("nodes.onnx").read_bytes()
    model = qdqgraph.strip("model.onnx", ranking=found, top=2).model  # noqa: B005 - no string
    assert model == onnx.load("nodes.onnx")


def test_a_unit_whose_layers_are_taken_does_not_count() -> None:
    """The Add reads two groups, so it is in the units of both."""
    model = build(
        """g (float[1,4,8,8] x, float[1,4,8,8] w) => (float[1,4,8,8] y) {
        p = t.pair (x, s1)  q = t.pair (w, s3)  a = Add (p, q)  b = Tanh (a)  y = t.conv4 (b, s1) }"""
    )
    random = np.random.default_rng(0)
    feed = {name: random.normal(0, 4, (1, 4, 8, 8)).astype(np.float32) for name in ("x", "w")}
    found = qdqgraph.sensitivity(model, [feed])
    assert sorted(unit.layers for unit in found.worst()) == [("a",), ("y",)] and found.total == 3


def test_strip_takes_the_worst_layers_of_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["error", "model.onnx", "--data", "data.npz", "--json", "--no-config"]) == 0
    Path("errors.json").write_text(capsys.readouterr().out)
    assert json.loads(Path("errors.json").read_text())["layers"][0]["layer"] == "d"
    strip = ["strip", "model.onnx", "--no-config", "-o"]
    assert main([*strip, "nodes.onnx", "--nodes", "d"]) == 0
    assert main([*strip, "top.onnx", "--from", "errors.json", "--top", "1"]) == 0
    assert Path("top.onnx").read_bytes() == Path("nodes.onnx").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["other.onnx", "--from", "parts.json", "--top", "1"], "parts.json is of another model"),
        (["other.onnx", "--from", "errors.json", "--top", "1"], "errors.json is of another model"),
        (["model.onnx", "--from", "parts.json"], "--top K"),
        (["model.onnx", "--top", "2"], "--from FILE"),
        (["model.onnx", "--from", "parts.json", "--min-gain", "500"], "no unit gains 500 or more"),
        (["model.onnx", "--from", "errors.json", "--min-gain", "1"], "measures no gain"),
        (["model.onnx", "--from", "on.json", "--min-gain", "1"], "--mode on"),
        (["model.onnx", "--from", "absent.json", "--top", "1"], "absent.json: cannot be read"),
        (["model.onnx", "--from", "mine.py", "--top", "1"], "is not a file of `qdqgraph sensitivity`"),
    ],
)
def test_strip_refuses_what_it_cannot_take(
    words: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(build(CHAIN.replace("BAD", "0.2")), "other.onnx")
    assert main(COMMAND) == 0
    assert main([*COMMAND[:-1], "on.json", "--mode", "on"]) == 0
    capsys.readouterr()
    assert main(["error", "model.onnx", "--data", "data.npz", "--json", "--no-config"]) == 0
    Path("errors.json").write_text(capsys.readouterr().out)
    assert main(["strip", *words, "-o", "out.onnx", "--no-config"]) == 2
    out, err = capsys.readouterr()
    assert said in err and len(err.splitlines()) == 1 and not out
    assert not Path("out.onnx").exists()

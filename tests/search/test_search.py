"""The search: what may be decided, that measurements are true, that the result keeps its budget, and what survives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")
pytest.importorskip("optuna")

import qdqgraph
from qdqgraph import api
from qdqgraph.api.starting import Asked, Repaired, starting
from qdqgraph.calibration.data.sources import samples_of
from qdqgraph.cli.main import main
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.timing.device import Device
from qdqgraph.engines.timing.roofline import Roofline, default_shares
from qdqgraph.errors import ModelError
from qdqgraph.repair.options import Options
from qdqgraph.search.decisions import APART, FLOAT, Candidate, Decision
from qdqgraph.search.front import Budget, Measured, dominated, front, gained, spread_out
from qdqgraph.search.start import PARTS, Found, quality
from qdqgraph.search.trials import Trials, choices, opened
from qdqgraph.verify.sensitivity.levels import Sampled
from tests.support.models import build
from tests.support.paths import ROOT

MODEL = """g (float[1,4,32,32] x) => (float[1,4,32,32] y) {
    a = t.conv4 (x, s1)  b = Relu (a)  c = t.conv4 (b, s2)  d = Tanh (c)  e = t.conv4 (d, s3)
    h = Concat <axis = 1> (b, e)  y = t.conv8 (h, s4) }"""
"""Four layers, a Concat whose inputs must share a scale, and a Tanh that needs another one."""


def samples(count: int = 6) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"x": random.normal(0, 4, (1, 4, 32, 32)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def starts() -> Iterator[tuple[Repaired, ...]]:
    model = build(MODEL)
    asked = Asked(
        model=model,
        proto=model,
        source=Path("model.onnx"),
        folder=Path(),
        rules=qdqgraph.rules(),
        options=Options(),
        samples=samples_of(samples(), model),
        reference=None,
        evaluate=None,
        provider="cpu",
        memory=2**31,
        roofline=Roofline(Device.named("a100"), default_shares()),
        floats="FP16",
        progress=lambda message: None,
    )
    with starting(asked) as found:
        yield found


def test_units_scales_and_what_is_apart_may_be_decided(starts: tuple[Repaired, ...]) -> None:
    first = starts[0].start
    options = {d.option for d in first.decisions}
    assert sum(d.option == FLOAT for d in first.decisions) == 4
    assert options > {FLOAT} and options <= {FLOAT, APART, "max", "mse", "entropy", "percentile"}
    for decision in first.decisions:
        scales = first.space.scaled([decision])
        assert set(scales) <= set(first.built.scales)
        assert (len(set(scales.values())) > 1) == (decision.option == APART)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_is_measured_of_a_candidate_is_what_its_model_does(
    starts: tuple[Repaired, ...], data: st.DataObject
) -> None:
    start = data.draw(st.sampled_from(starts)).start
    candidate = Candidate(start.name).with_(*data.draw(st.lists(st.sampled_from(start.decisions), max_size=5)))
    found, graph = start.found(candidate, held=True), start.made(candidate)
    onnx.checker.check_model(graph.model, full_check=True)
    assert found.held is not None
    for measured, level in zip((found.searched, found.held), start.run(graph), strict=True):
        assert quality(measured) == pytest.approx(quality(level), abs=0.05)
    engine = forecast(graph, "m")
    assert found.bytes == engine.bytes
    assert found.ms == pytest.approx(start.roofline.estimate(engine, graph, "FP16").ms)


def test_with_everything_in_float_the_outputs_are_those_of_the_float_network(starts: tuple[Repaired, ...]) -> None:
    first = starts[0].start
    everything = Candidate("fix").with_(*(d for d in first.decisions if d.option == FLOAT))
    assert all(quality(level) > 100 for level in first.run(first.made(everything)))


def level(db: float, *samples: float) -> Sampled:
    return Sampled(db, {"y": db}, None, samples)


def point(number: int, ms: float, db: float, held: float | None = None) -> Measured:
    return Measured(Candidate("s", (Decision(str(number), FLOAT),)), Found(ms, 0, level(db), level(held or db)))


points = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20).map(
    lambda pairs: [point(i, float(ms), float(db)) for i, (ms, db) in enumerate(pairs)]
)


@given(points)
def test_the_front_has_all_that_nothing_dominates_once(found: list[Measured]) -> None:
    ahead = front(found, found[0].found)
    for one in found:
        better = [o for o in found if dominated(one.found, o.found)]
        same = [o for o in ahead if (o.found.ms, o.found.quality) == (one.found.ms, one.found.quality)]
        assert bool(same) == (not better)
    assert [m.found.ms for m in ahead] == sorted({m.found.ms for m in ahead})


@given(points, st.integers(1, 10))
def test_a_choice_from_the_front_keeps_its_ends(found: list[Measured], count: int) -> None:
    ahead = front(found, found[0].found)
    chosen = spread_out(ahead, count)
    assert len(chosen) == min(count, len(ahead))
    assert chosen[0] == ahead[0] and (count == 1 or chosen[-1] == ahead[-1])


def test_a_budget_takes_the_fastest_or_the_most_accurate() -> None:
    slow, quick, base = point(1, 5, 30), point(2, 2, 10), point(3, 3, 20)
    floats = Found(6, 0, level(144), level(144))

    def best(budget: Budget) -> Measured:
        return budget.ranked((slow, quick, base), base.found, floats)[0]

    assert best(Budget()) == base
    assert best(Budget(least_db=5)) == quick
    assert best(Budget(least_db=25)) == slow
    assert best(Budget(least_speed=2)) == base
    assert best(Budget(least_speed=3)) == quick
    assert not Budget(least_db=31).ranked((slow, quick, base), base.found, floats)


def test_a_budget_is_kept_on_the_held_back_samples_too() -> None:
    lucky, sound = point(1, 1, 30, held=10), point(2, 2, 26, held=26)
    assert Budget(least_db=25).ranked((lucky, sound), sound.found, sound.found)[0] == sound


def test_a_gain_counts_as_far_as_both_halves_have_it() -> None:
    base, lucky, sound = point(1, 2, 20, held=18), point(2, 2, 26, held=17), point(3, 2, 21, held=19)
    assert gained(lucky.found, base.found) == -1 and gained(sound.found, base.found) == 1
    assert Budget().ranked((base, lucky, sound), base.found, base.found) == (sound, base, lucky)
    assert front((base, lucky, sound), base.found) == (sound,)


def test_a_gain_that_its_standard_error_exceeds_is_none() -> None:
    base, steady, chance = (
        Found(1, 0, level(20, 20, 22), level(20, 18, 20)),
        Found(1, 0, level(22, 22, 24), level(22, 20, 22)),
        Found(1, 0, level(24, 40, 12), level(24, 15, 25)),
    )
    assert gained(steady, base) == 2
    assert gained(chance, base) < 0 == gained(base, base)


def test_a_score_that_gains_while_the_samples_lose_is_an_accident() -> None:
    def scored(number: int, score: float, *samples: float) -> Measured:
        levels = (Sampled(20, {"y": 20}, score, samples), Sampled(20, {"y": 20}, score, samples))
        return Measured(Candidate("s", (Decision(str(number), FLOAT),)), Found(1, 0, *levels))

    base, lucky, sound = scored(2, 0.8, 20, 22), scored(1, 0.9, 19, 20), scored(3, 0.85, 21, 23)
    assert gained(lucky.found, base.found) == 0 < gained(sound.found, base.found)
    assert Budget().ranked((lucky, base), base.found, base.found) == (base, lucky)


def test_scores_within_their_noise_are_equal_and_the_samples_decide() -> None:
    """Five of 2,000 more inputs are right: an accident."""

    def scored(number: int, score: float, *samples: float) -> Measured:
        levels = (Sampled(20, {"y": 20}, score, samples), Sampled(20, {"y": 20}, score, samples))
        return Measured(Candidate("s", (Decision(str(number), FLOAT),)), Found(1, 0, *levels))

    base, lucky, sound = scored(3, 0.8665, 20, 22), scored(1, 0.869, 20.5, 23.5), scored(2, 0.8675, 21.5, 24.5)
    assert Budget().ranked((base, lucky, sound), base.found, base.found) == (sound, lucky, base)
    assert gained(scored(4, 0.88, 20.5, 23.5).found, base.found) == pytest.approx(0.0135)


def test_without_a_clock_no_slower_means_no_more_bytes_either() -> None:
    base, floats = point(1, 2.0, 20), point(2, 1.9, 40)
    larger = replace(floats, found=replace(floats.found, bytes=1))
    assert Budget().ranked((base, larger), base.found, floats.found) == (base,)
    assert Budget().ranked((base, larger), base.found, floats.found, clocked=True)[0] == larger
    assert Budget(least_speed=0.9).ranked((base, larger), base.found, floats.found)[0] == larger


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"least_db": 1.0, "least_speed": 1.0}, "give one of --budget-db, --max-drop and --min-speed"),
        ({"most_drop": -1.0}, "a drop of -1.0: give how much of the score may be lost, 0 or more"),
        ({"least_speed": 0.0}, "a speed of 0.0: give how many times faster, above 0"),
        ({"most_drop": float("nan")}, "a drop of nan"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(budget: dict[str, float], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Budget(**budget)


CHOICES = choices({"s": [Decision(str(i), FLOAT) for i in range(40)]})


def storage(folder: Path) -> str:
    return f"sqlite:///{folder / 'trials.db'}"


def candidates(count: int = 20) -> list[Candidate]:
    return [point(i, 1, 1).candidate for i in range(count)]


def measure(calls: list[Candidate], stop: int = 1000) -> Callable[[Candidate, bool], Found]:
    def run(candidate: Candidate, held: bool) -> Found:
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(candidate)
        return Found(float(candidate.decisions[0].subject) + 1, 0, level(1), level(2) if held else None)

    return run


def test_what_was_measured_is_not_measured_again_and_an_interrupted_search_goes_on(tmp_path: Path) -> None:
    first: list[Candidate] = []
    with pytest.raises(KeyboardInterrupt):
        Trials(storage(tmp_path), "t", "run", CHOICES).measured(candidates(), measure(first, 7), held=True)
    second: list[Candidate] = []
    found = Trials(storage(tmp_path), "t", "run", CHOICES).measured(candidates(), measure(second), held=True)
    assert [f.ms for f in found] == [float(i + 1) for i in range(20)]
    assert sorted(first + second) == sorted(candidates())
    third: list[Candidate] = []
    assert Trials(storage(tmp_path), "t", "run", CHOICES).measured(candidates(), measure(third), held=True) == found
    assert not third


def test_a_trial_that_another_process_has_finished_meanwhile_is_no_error(tmp_path: Path) -> None:
    """SQLite locks no rows: two processes may be given the same waiting trial."""
    trials = Trials(storage(tmp_path), "t", "run", CHOICES)

    def run(candidate: Candidate, held: bool) -> Found:
        other = opened(storage(tmp_path), "t", create=False)
        for trial in other.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING":
                other.tell(trial.number, [1.0, 1.0])
        return measure([])(candidate, held)

    found = trials.measured(candidates(3), run, held=True)
    assert [f.ms for f in found] == [1.0, 2.0, 3.0]
    later: list[Candidate] = []
    assert trials.measured(candidates(3), measure(later), held=True) == found and not later


def test_a_storage_of_another_run_is_refused(tmp_path: Path) -> None:
    Trials(storage(tmp_path), "t", "run", CHOICES)
    with pytest.raises(ModelError, match="has a search of another model, other data or other options"):
        Trials(storage(tmp_path), "t", "other", CHOICES)


def test_a_storage_that_cannot_be_opened_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        Trials("sqlite:////no/such/folder/x.db", "t", "run", CHOICES)


@pytest.mark.parametrize("budget", [{}, {"min_speed": 1.0}, {"budget_db": 20.0}])
def test_the_result_keeps_its_budget_and_is_never_worse_than_the_repair(budget: dict[str, float]) -> None:
    model, data = build(MODEL), samples()
    found = qdqgraph.tune(model, data, trials=8, **budget)  # type: ignore[arg-type]
    outcome, plan = found.outcome, found.result.plan
    assert not dominated(outcome.chosen.found, outcome.base.found)
    assert plan.apply(model).SerializeToString() == found.result.model.SerializeToString()
    assert plan.inverse().apply(found.result.model).SerializeToString() == model.SerializeToString()
    if "budget_db" in budget:
        assert sum(map(quality, outcome.real)) / PARTS >= budget["budget_db"] - 0.1
    elif "min_speed" in budget:
        assert outcome.chosen.found.ms <= outcome.floats.found.ms / budget["min_speed"]
    else:
        assert outcome.chosen.found.ms <= outcome.base.found.ms + 1e-9
        assert outcome.chosen.found.quality >= outcome.base.found.quality
    repaired = qdqgraph.fix(model, data=data)
    assert outcome.base.found.bytes == forecast_bytes(repaired.model)


def forecast_bytes(model: onnx.ModelProto) -> int:
    return qdqgraph.forecast(model).bytes


def test_an_unreachable_budget_says_what_can_be_reached() -> None:
    with pytest.raises(
        ModelError, match=r"no candidate has at least 900 dB, the fastest: the most accurate has .* dB at"
    ):
        qdqgraph.tune(build(MODEL), samples(), trials=0, budget_db=900)


def test_a_float_model_is_quantized_first() -> None:
    text = """g (float[1,4,32,32] x) => (float[1,4,32,32] y)
        <float[4,4,1,1] w = {WEIGHTS}> { a = Conv (x, w)  b = Relu (a)  y = Conv (b, w) }"""
    weights = ", ".join(f"{v:.3f}" for v in np.random.default_rng(0).normal(0, 0.4, 16))
    model = build(text.replace("WEIGHTS", weights))
    found = qdqgraph.tune(model, samples(), trials=4)
    assert found.outcome.base.found.bytes == forecast_bytes(qdqgraph.quantize(model, data=samples()).model)
    assert 20 < found.outcome.base.found.quality < 60


def test_a_model_of_integer_operators_is_repaired_not_quantized() -> None:
    """It has no pairs before its repair."""
    model = build(
        """g (float[1,4,32,32] x) => (float[1,4,32,32] y)
        <float s = {0.1}, uint8 z = {128}, int8[4,4,1,1] w = {WEIGHTS}, float sw = {0.01}, int8 zw = {0}> {
            q = QuantizeLinear (x, s, z)  c = QLinearConv (q, s, z, w, sw, zw, s, z)  y = DequantizeLinear (c, s, z) }
        """.replace("WEIGHTS", ", ".join(str(7 * i % 50 - 25) for i in range(16)))
    )
    found = qdqgraph.tune(model, samples(), trials=0)
    assert found.outcome.base.found.bytes == forecast_bytes(qdqgraph.fix(model, data=samples()).model)


def test_exact_repairs_have_one_start() -> None:
    found = qdqgraph.tune(build(MODEL), samples(), options=Options(exact=True), trials=0, budget_db=5)
    assert {point.candidate.start for point in (found.outcome.chosen, *found.outcome.front)} == {"fix"}


def test_everything_in_float_is_a_candidate() -> None:
    found = qdqgraph.tune(build(MODEL), samples(), trials=0, budget_db=90)
    assert found.outcome.chosen.found.quality >= 90
    assert found.result.int8 is not None and found.result.int8[1].int8 == 0 < found.result.int8[0].int8


def test_a_score_is_a_budget() -> None:
    """The score is the share of outputs near those of the float network; everything in float has 1."""
    model = build(MODEL)
    exact = [run["y"] for run in map(api_run(qdqgraph.strip(model, ["*"]).model), samples())]

    def score(run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> float:
        near = [np.abs(run(feed)["y"] - y) < 0.05 * np.abs(y).max() for feed, y in zip(samples(), exact, strict=True)]
        return float(np.mean(near))

    found = qdqgraph.tune(model, samples(), evaluate=score, max_drop=0.02, trials=4)
    assert found.outcome.floats.found.searched.score == 1
    assert found.outcome.real[0].score is not None and found.outcome.real[0].score >= 0.98
    with pytest.raises(ModelError, match="give --eval"):
        qdqgraph.tune(model, samples(), max_drop=0.02)


def test_a_clock_replaces_every_estimate_and_builds_are_limited(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model, data = build(MODEL), samples()
    options = {"trials": 0, "library": "openvino", "builds": 3, "storage": storage(tmp_path)}
    outcome = qdqgraph.tune(model, data, **options).outcome  # type: ignore[arg-type]
    assert outcome.builds == 3 and outcome.base.built is not None
    assert outcome.base.found.ms == outcome.base.built.ms
    estimates = qdqgraph.tune(model, data, trials=0).outcome
    assert outcome.floats.found.ms != estimates.floats.found.ms
    assert outcome.chosen.found.ms <= outcome.base.found.ms
    again = qdqgraph.tune(model, data, **options).outcome  # type: ignore[arg-type]
    assert again.builds == 0 and again.chosen == outcome.chosen and again.floats == outcome.floats
    with pytest.raises(ModelError, match="builds of 2 or more"):
        qdqgraph.tune(model, data, library="openvino", builds=1)


def test_what_tensorrt_rtx_builds_has_bytes_and_keeps_its_estimate() -> None:
    pytest.importorskip("tensorrt_rtx")
    outcome = qdqgraph.tune(build(MODEL), samples(), trials=0, library="tensorrt-rtx", builds=3).outcome
    assert outcome.builds == 3 and outcome.base.built is not None and outcome.base.built.bytes
    assert outcome.base.found.ms == qdqgraph.tune(build(MODEL), samples(), trials=0).outcome.base.found.ms


def test_estimates_too_close_to_rank_are_said() -> None:
    """On a large GPU the launches of these four layers take all the time."""
    outcome = qdqgraph.tune(build(MODEL), samples(), trials=0, device="a100").outcome
    assert any("too close to rank" in note for note in outcome.notes)


def api_run(model: onnx.ModelProto) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    from qdqgraph.verify.scores import run_of

    return run_of(model, Path())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(build(MODEL), "model.onnx")
    np.savez("data.npz", x=np.concatenate([sample["x"] for sample in samples()]))
    return tmp_path


COMMAND = ["tune", "model.onnx", "--data", "data.npz", "--trials", "8", "--no-config"]


@pytest.mark.usefixtures("folder")
def test_the_command_writes_model_plan_and_picture_and_the_same_command_measures_nothing_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*COMMAND, "-o", "out.onnx", "--plan", "plan.json", "--picture", "front.svg"]) == 0
    text = capsys.readouterr().out
    assert "no slower than the repaired model, the best quality" in text and "Front, fastest first" in text
    assert Path("front.svg").read_text(encoding="utf-8").startswith("<svg")
    model = Path("out.onnx").read_bytes()
    assert main(["undo", "plan.json", "out.onnx", "-o", "back.onnx"]) == 0
    assert onnx.load("back.onnx") == onnx.load("model.onnx")
    assert main(["tune", "model.onnx", "--status", "-o", "out.onnx"]) == 0
    status = capsys.readouterr().out
    assert "0 begun, 0 waiting" in status and "Front so far" in status
    assert main([*COMMAND, "-o", "out.onnx", "--force", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert Path("out.onnx").read_bytes() == model
    assert main(["tune", "model.onnx", "--status", "-o", "out.onnx"]) == 0
    assert capsys.readouterr().out == status
    assert outcome["chosen"]["found"]["ms"] <= outcome["base"]["found"]["ms"]


def test_a_killed_search_goes_on_and_workers_find_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "-o", "alone.onnx", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    command = [sys.executable, "-m", "qdqgraph", *COMMAND, "--storage", f"sqlite:///{folder / 'shared.db'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while time.monotonic() < end and first.poll() is None:
        try:
            if api.tune_status(f"sqlite:///{folder / 'shared.db'}").measured >= 3:
                break
        except ModelError:
            time.sleep(0.2)
    first.kill()
    first.wait()
    assert not (folder / "killed.onnx").exists()
    again = subprocess.run(
        [*command, "-o", "killed.onnx", "--workers", "2", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (folder / "killed.onnx").read_bytes() == (folder / "alone.onnx").read_bytes()
    assert json.loads(again.stdout)["front"] == alone["front"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget-db", "900"], "no candidate has at least 900 dB"),
        (["--max-drop", "1"], "a drop of the score needs the function that scores: give --eval"),
        (["--samples", "3"], "the data have 3 samples; the search needs 4"),
        (["--device", "h900"], "unknown device 'h900'"),
        (["-o", "model.onnx"], "model.onnx exists; use --force"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("model.onnx").read_bytes()
    assert main([*COMMAND, "--trials", "0", *options]) == 2
    assert message in capsys.readouterr().err
    assert Path("model.onnx").read_bytes() == before and not list(Path().glob("*out*"))


@pytest.mark.usefixtures("folder")
def test_a_status_without_a_search_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "model.onnx", "--status"]) == 2
    assert "has no search" in capsys.readouterr().err

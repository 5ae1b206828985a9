"""`tune`: the result keeps its budget, and is never worse than the repair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("optuna")

import qdqgraph
from qdqgraph.errors import EngineError, ModelError
from qdqgraph.repair.options import Options
from qdqgraph.search.found import quality
from qdqgraph.search.gains import dominated
from qdqgraph.search.start import PARTS
from qdqgraph.verify.scores import run_of
from tests.support.models import build
from tests.support.searching import MODEL, samples


@pytest.mark.parametrize("budget", [{}, {"min_speed": 1.0}, {"max_slower": 10.0}, {"budget_db": 20.0}])
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
    elif "max_slower" in budget:
        assert outcome.base.found.ms < outcome.chosen.found.ms <= outcome.base.found.ms * 1.1
        assert outcome.chosen.found.quality > outcome.base.found.quality
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


def test_a_scale_that_is_twice_too_large_is_found() -> None:
    """The samples are normal with a deviation of 4; mse clips them at 16 to 17, which is a scale of 0.13."""
    model = build("g (float[1,4,32,32] x) => (float[1,4,32,32] y) <float s = {0.26}> { y = t.conv4 (x, s) }")
    kept = qdqgraph.tune(model, samples(), trials=0, keep_scales=True).outcome
    assert [(d.subject, d.option) for d in kept.chosen.candidate.decisions] == [("x", "x0.50")]
    assert kept.chosen.found.quality > kept.base.found.quality + 5


def test_exact_repairs_have_one_start() -> None:
    found = qdqgraph.tune(build(MODEL), samples(), options=Options(exact=True), trials=0, budget_db=5)
    assert {point.candidate.start for point in (found.outcome.chosen, *found.outcome.front)} == {"fix"}


def test_everything_in_float_is_a_candidate() -> None:
    found = qdqgraph.tune(build(MODEL), samples(), trials=0, budget_db=90)
    assert found.outcome.chosen.found.quality >= 90
    assert found.result.int8 is not None and found.result.int8[1].int8 == 0 < found.result.int8[0].int8


def test_a_score_is_a_budget() -> None:
    """The score is the share of outputs near those of the float network; everything in float has 1. A decision alone is
    measured in dB: a score may take minutes."""
    model = build(MODEL)
    exact = [run["y"] for run in map(run_of(qdqgraph.strip(model, ["*"]).model, Path()), samples())]

    runs: list[object] = []

    def score(run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> float:
        runs.append(run)
        near = [np.abs(run(feed)["y"] - y) < 0.05 * np.abs(y).max() for feed, y in zip(samples(), exact, strict=True)]
        return float(np.mean(near))

    found = qdqgraph.tune(model, samples(), evaluate=score, max_drop=0.02, trials=4)
    assert found.outcome.floats.found.searched.score == 1
    assert len(runs) <= found.outcome.candidates + len(found.outcome.front) + 1
    assert found.outcome.real[0].score is not None and found.outcome.real[0].score >= 0.98
    with pytest.raises(ModelError, match="give --eval"):
        qdqgraph.tune(model, samples(), max_drop=0.02)


def test_a_clock_replaces_every_estimate_and_builds_are_limited(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model, data = build(MODEL), samples()
    options = {"trials": 0, "library": "openvino", "builds": 3, "storage": f"sqlite:///{tmp_path / 'trials.db'}"}
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


def test_a_missing_library_is_named_before_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lines: list[str] = []
    with pytest.raises(EngineError, match="trtexec is not on the PATH"):
        qdqgraph.tune(build(MODEL), samples(), library="trtexec", progress=lines.append)
    assert not lines

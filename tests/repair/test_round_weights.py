"""`fix --round-weights`: weights rounded up or down by the error of their layer, judged on held-back samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime")

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.errors import CalibrationError, ModelError
from qdqgraph.graph.graph import Graph
from qdqgraph.graph.pair import pairs
from qdqgraph.model.runtime import run
from tests.support.convolution import CHANNELS, INPUTS, network, reals, reference

KEPT = {"calibrate": "none", "round_weights": True}


def alike(samples: int = 8, seed: int = 0, *, half: bool = False) -> list[dict[str, np.ndarray]]:
    """Inputs whose channels vary together, as in a trained network; with `half`, each is the negative of the next one in every
    second sample."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(samples):
        x = random.uniform(-1, 1, (1, 1, 4, 4)) + 0.1 * random.normal(size=(1, INPUTS, 4, 4))
        if half and index % 2:
            x = random.uniform(-1, 1, (1, 1, 4, 4)) * np.resize([1, -1], (1, INPUTS, 1, 1))
        found.append({"x": x.astype(np.float32)})
    return found


def error(model: onnx.ModelProto, exact: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> float:
    made, true = (run(m, samples, Path()) for m in (model, exact))
    return float(sum(((a[0] - b[0]) ** 2).sum() for a, b in zip(made, true, strict=True)))


def integers(model: onnx.ModelProto) -> np.ndarray:
    graph = Graph(model)
    pair = next(p for p in pairs(graph) if p.kind == "weight")
    array = graph.array(pair.tensor)
    assert array is not None and array.dtype == np.int8
    return array


def fixed(model: onnx.ModelProto, samples: list[dict[str, np.ndarray]], **more: Any) -> qdqgraph.Result:
    return qdqgraph.fix(model, data=samples, **{**KEPT, **more})


@pytest.mark.parametrize("stored", [False, True])
def test_the_error_falls_on_samples_that_nothing_was_computed_from(stored: bool) -> None:
    values = reals()
    model, exact = network(values, stored=stored), reference(values)
    given = {"reference": exact} if stored else {}
    result = fixed(model, alike(), **given)
    assert error(result.model, exact, alike(seed=1)) < 0.75 * error(model, exact, alike(seed=1))
    (step,) = result.corrections
    assert step.kept and step.examined == 1 and [layer.layer for layer in step.layers] == ["y"]
    assert step.layers[0].after > step.layers[0].before + 10
    steps = values / (np.abs(values).max(axis=(1, 2, 3), keepdims=True) / 127)
    assert (np.abs(integers(result.model) - steps) < 1 + 1e-3).all()
    assert (integers(result.model) != np.rint(steps)).mean() > 0.02


def test_weights_without_known_values_stay() -> None:
    model = network(reals(), stored=True)
    result = fixed(model, alike())
    (step,) = result.corrections
    assert (step.examined, step.layers, step.kept) == (0, (), False)
    assert np.array_equal(integers(result.model), integers(model))


def test_what_does_not_help_the_held_back_samples_is_not_applied() -> None:
    """All weights are 0.4 steps above an integer: in the other half of the samples, the nearest integers are exact."""
    places = np.random.default_rng(0).integers(-100, 100, (CHANNELS, INPUTS, 1, 1))
    values = (0.01 * (places + 0.4)).astype(np.float32)
    model = network(values, stored=True, scale=np.full(CHANNELS, 0.01))
    result = fixed(model, alike(half=True), reference=reference(values))
    (step,) = result.corrections
    assert (step.examined, step.layers, step.kept) == (1, (), False)
    assert np.array_equal(integers(result.model), integers(model))
    assert fixed(model, alike(), reference=reference(values)).corrections[0].kept


def test_except_leaves_a_layer() -> None:
    model = network(reals(), stored=True)
    result = fixed(model, alike(), reference=reference(reals()), skip=("y",))
    assert np.array_equal(integers(result.model), integers(model)) and result.corrections[0].examined == 0


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("more", [{}, {"bias_correction": True}])
@pytest.mark.parametrize("method", ["auto", "none"])
def test_a_second_run_changes_no_byte_and_undo_restores_the_bytes(
    stored: bool, more: dict[str, bool], method: str
) -> None:
    model = network(reals(), stored=stored)
    before = model.SerializeToString()
    options: dict[str, Any] = {**more, "calibrate": method} | ({"reference": reference(reals())} if stored else {})
    result = fixed(model, alike(), **options)
    assert result.corrections[0].kept
    again = fixed(result.model, alike(), **options)
    assert again.model.SerializeToString() == result.model.SerializeToString() and not again.plan.edits
    assert result.plan.apply(model).SerializeToString() == result.model.SerializeToString()
    assert result.plan.inverse().apply(result.model).SerializeToString() == before


def test_other_data_or_options_are_another_run() -> None:
    model, exact = network(reals(), stored=True), reference(reals())
    first = fixed(model, alike(), reference=exact)
    other = fixed(first.model, alike(seed=3), reference=exact)
    assert not np.array_equal(integers(other.model), integers(first.model))
    assert other.corrections[0].kept
    assert len(fixed(first.model, alike(), reference=exact, bias_correction=True).corrections) == 2


def test_what_cannot_be_done_is_a_sentence() -> None:
    model = network(reals(), stored=False)
    with pytest.raises(ModelError, match="rounding of weights is computed on samples"):
        qdqgraph.fix(model, round_weights=True)
    with pytest.raises(ModelError, match="stores integers itself"):
        fixed(model, alike(), weights="int8")
    with pytest.raises(CalibrationError, match="2 samples or more"):
        fixed(model, alike(1))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(network(reals(), stored=False), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.concatenate([sample["x"] for sample in alike()]))
    arguments = ["fix", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out.onnx"), "--round-weights"]
    assert main(arguments) == 2
    assert "--round-weights computes on samples: give them with --data" in capsys.readouterr().err
    assert main([*arguments, "--data", str(tmp_path / "data.npz")]) == 0
    assert "rounding of weights" in capsys.readouterr().out
    assert integers(onnx.load(tmp_path / "out.onnx")).shape == (CHANNELS, INPUTS, 1, 1)


def test_other_scales_from_a_table_are_another_run(tmp_path: Path) -> None:
    values = reals()
    first, second = tmp_path / "a.cache", tmp_path / "b.cache"
    first.write_text("TRT-8603-EntropyCalibration2\nx: 3c23d70a\n")
    second.write_text("TRT-8603-EntropyCalibration2\nx: 3ca3d70a\n")
    more = {"reference": reference(values), "ranges": first}
    result = fixed(network(values, stored=False), alike(), **more)
    assert not fixed(result.model, alike(), **more).plan.edits
    again = fixed(result.model, alike(), **{**more, "ranges": second})
    assert {p.value for p in pairs(Graph(again.model)) if p.kind == "activation"} == {float(np.float32(0.02))}

"""Calls on a large file leave its weights there, and return the same as with these weights in memory."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import ModelError
from qdqgraph.model.inline.references import opened
from qdqgraph.model.skeleton import LARGE
from tests.support.inside import SIDE, heavy_model, inside

Files = Callable[[], list[str]]
FEED = [{"x": np.random.default_rng(1).normal(size=(1, SIDE)).astype("f")} for _ in range(2)]
CALLS: dict[str, Callable[..., Any]] = {
    "fix": qdqgraph.fix,
    "integer weights": lambda path, **more: qdqgraph.fix(path, weights="int8", plan="plan.json", **more),
    "FP16": lambda path, **more: qdqgraph.fix(path, fp16=True, **more),
    "data and numeric check": lambda path, **more: qdqgraph.fix(path, data=FEED, numerics=True, **more),
    "strip": lambda path, **more: qdqgraph.strip(path, ["e"], **more),
    "to_fp16": qdqgraph.to_fp16,
}
PLAIN: dict[str, Callable[..., Any]] = {
    "error": lambda path: qdqgraph.error(path, FEED),
    "sensitivity": lambda path: qdqgraph.sensitivity(path, FEED),
    "forecast": qdqgraph.forecast,
    "diff": lambda path: qdqgraph.diff(path, "again.onnx"),
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return heavy_model(tmp_path)


def _open_now() -> set[str]:
    handles = Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("needs /proc")
    return {str(handle.readlink()) for handle in handles.iterdir() if handle.is_symlink()}


@pytest.fixture
def files() -> Callable[[], list[str]]:
    """Gives the files that this process has opened and not closed."""
    before = _open_now()

    def found() -> list[str]:
        new = (Path(file) for file in _open_now() - before)
        return sorted(file.name for file in new if file.suffix == ".onnx" or file.name.endswith("(deleted)"))

    return found


def models(result: Any) -> list[bytes]:
    """The models and the plan of a result, as bytes."""
    names = ("model", "exact", "start") if isinstance(result, qdqgraph.Result) else ("model",)
    found = [getattr(result, name).SerializeToString(deterministic=True) for name in names]
    if isinstance(result, qdqgraph.Result):
        found += [result.plan.to_json().encode()]
        found += [] if result.fp16 is None else models(result.fp16)
    return found


@pytest.mark.parametrize("output", ["out.onnx", None])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_result_is_the_same(
    call: Callable[..., Any], output: str | None, path: Path, monkeypatch: pytest.MonkeyPatch, files: Files
) -> None:
    before = call(path, output=output, force=True)
    written = b"" if output is None else Path(output).read_bytes()
    seen = inside(monkeypatch)
    after = call(path, output=output, force=True)
    assert seen and all(seen) and opened() is None
    assert output is None or Path(output).read_bytes() == written
    if isinstance(after, qdqgraph.Result):
        assert after.summary() == before.summary() and after.to_json() == before.to_json()
    assert models(after) == models(before)
    assert repr(after) == repr(before) and after == before
    assert not files()


def test_the_weights_of_a_result_are_read_when_they_are_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, files: Files
) -> None:
    inside(monkeypatch)
    result = qdqgraph.fix(path, output="out.onnx")
    assert "model" not in vars(result) and files() == ["model.onnx"]
    model = result.model
    assert max(len(tensor.raw_data) for tensor in model.graph.initializer) >= LARGE
    assert result.model is model and files() == ["model.onnx"]
    if result.exact is result.model:
        assert result.plan.edits and result.start is not model
    assert result.start is not None and result.plan is not None and not files()
    with pytest.raises(AttributeError, match="'Result' object has no attribute 'modell'"):
        result.modell  # type: ignore[attr-defined]  # noqa: B018


def test_a_check_reads_the_weights_when_its_graph_is_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, files: Files
) -> None:
    before = qdqgraph.check(path, other_targets=True, rehearse=True)
    seen = inside(monkeypatch)
    after = qdqgraph.check(path, other_targets=True, rehearse=True)
    assert seen and all(seen)
    assert after.summary() == before.summary() and after.to_json() == before.to_json()
    assert after.findings == before.findings and after.target == before.target and after.rehearsal == before.rehearsal
    assert "graph" not in vars(after.known) and files() == ["model.onnx"]
    graph, own = after.known.graph, before.known.graph
    assert graph.model.SerializeToString(deterministic=True) == own.model.SerializeToString(deterministic=True)
    names = [name for name in own.initializers if own.is_constant(name)]
    assert names
    for name in names:
        np.testing.assert_array_equal(graph.array(name), own.array(name))
    assert graph is after.known.graph and graph.target == own.target and not files()


def test_a_check_whose_file_was_changed_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch)
    result = qdqgraph.check(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert result.summary()
    with pytest.raises(ModelError, match=r"model\.onnx .* run the command again"):
        _ = result.known.graph


def test_files_are_closed_with_the_result(path: Path, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    inside(monkeypatch)
    result = qdqgraph.fix(path, output="out.onnx", weights="int8")
    assert len(files()) == 2, "the model, and the new weights"
    del result
    assert not files()
    with pytest.raises(ModelError):
        qdqgraph.fix(path, output="out.onnx")
    assert not files()


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result))])
def test_copies_are_complete(
    how: Callable[[Any], Any], path: Path, monkeypatch: pytest.MonkeyPatch, files: Files
) -> None:
    inside(monkeypatch)
    result = qdqgraph.to_fp16(path, output="out.onnx")
    copied = how(result)
    assert "model" in vars(copied) and not files()
    assert copied.model.SerializeToString(deterministic=True) == Path("out.onnx").read_bytes()


def test_a_file_that_is_replaced_is_still_read_and_one_that_is_changed_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(monkeypatch)
    before = path.read_bytes()
    result = qdqgraph.fix(path, output=path, plan="plan.json", force=True)
    assert result.start.SerializeToString(deterministic=True) == before != path.read_bytes()
    result = qdqgraph.fix(path, output="out.onnx")
    path.write_bytes(before[:-1])
    with pytest.raises(ModelError, match=r"model\.onnx (became shorter|was changed) while it was read"):
        result.model  # noqa: B018


@pytest.mark.parametrize("call", PLAIN.values(), ids=PLAIN)
def test_what_has_no_model_is_the_same(
    call: Callable[..., Any], path: Path, monkeypatch: pytest.MonkeyPatch, files: Files
) -> None:
    qdqgraph.fix(path, output="again.onnx")
    before, seen = call(path), inside(monkeypatch)
    assert call(path) == before and seen and all(seen) and not files()


def test_plans_are_applied_and_undone(path: Path, monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    seen, before = inside(monkeypatch), path.read_bytes()
    fixed = qdqgraph.fix(path, output="out.onnx", plan="plan.json", weights="int8").model
    for plan in ("plan.json", qdqgraph.fix(path, output="again.onnx", weights="int8").plan):
        assert qdqgraph.apply(plan, path) == onnx.load("again.onnx" if plan != "plan.json" else "out.onnx")
    assert qdqgraph.undo("plan.json", "out.onnx").SerializeToString(deterministic=True) == before
    assert fixed == onnx.load("out.onnx") and all(seen) and not files()

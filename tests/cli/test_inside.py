"""Commands on a large model whose weights are inside the file write and print the same with these weights in the file as
in memory."""

from __future__ import annotations

import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph.api import results
from qdqgraph.api.soundness import refuse_unsound
from qdqgraph.cli.main import main
from qdqgraph.model.files import read_model
from qdqgraph.model.inline import whole
from qdqgraph.model.inline.references import referencing
from qdqgraph.model.writing import checker
from qdqgraph.repair import plan_light
from qdqgraph.repair.plan import Plan
from tests.support.inside import SIDE, heavy_model, inside
from tests.support.writes import files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model with weights inside."""
    return heavy_model(tmp_path)


COMMANDS = {
    "check": "check model.onnx --json",
    "fix": "fix model.onnx -o out.onnx --plan plan.json",
    "fix, integer weights": "fix model.onnx -o out.onnx --plan plan.json --weights int8 --diff",
    "fix, float weights": "fix model.onnx -o out.onnx --weights float",
    "fix, dry": "fix model.onnx --dry-run --weights int8 --diff",
    "fix, FP16": "fix model.onnx -o out.onnx --plan plan.json --fp16",
    "fix onto the input": "fix model.onnx -o model.onnx --plan plan.json --force --weights int8",
    "fix onto an earlier result": "fix model.onnx -o old.onnx --force",
    "fix with data": "fix model.onnx -o out.onnx --data x.npz --reference old.onnx",
    "strip": "strip model.onnx --nodes e -o out.onnx --plan plan.json --json",
    "error": "error model.onnx --data x.npz --json",
}


def run(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    with redirect_stdout(io.StringIO()) as printed:
        assert main(command.split()) in (0, 1)
    return printed.getvalue()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_same_bytes_and_the_same_text(command: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[str, dict[str, bytes]]] = []
    for name in ("memory", "file"):
        folder = path.parent / name
        folder.mkdir()
        for copy in ("model.onnx", "old.onnx"):
            (folder / copy).write_bytes(path.read_bytes())
        np.savez(folder / "x.npz", x=np.random.default_rng(1).normal(size=(2, SIDE)).astype("f"))
        seen = inside(monkeypatch) if name == "file" else []
        found.append((run(folder, command, monkeypatch), files(folder)))
    assert found[0] == found[1]
    assert seen and all(seen)


def test_plans_are_applied_and_undone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = inside(monkeypatch), path.read_bytes()
    monkeypatch.setattr(plan_light, "LIMIT", 0)
    monkeypatch.setattr(Plan, "from_json", lambda text: pytest.fail("a plan is read into memory"))
    run(path.parent, "fix model.onnx -o fixed.onnx --plan plan.json --weights int8", monkeypatch)
    run(path.parent, "apply plan.json model.onnx -o again.onnx", monkeypatch)
    run(path.parent, "fix model.onnx -o model.onnx --plan own.json --force --weights int8", monkeypatch)
    assert path.read_bytes() == (path.parent / "again.onnx").read_bytes() == (path.parent / "fixed.onnx").read_bytes()
    run(path.parent, "undo own.json model.onnx -o undone.onnx", monkeypatch)
    assert (path.parent / "undone.onnx").read_bytes() == before and seen == [True] * 4


def test_a_damaged_plan_has_the_usual_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(path.parent, "fix model.onnx -o fixed.onnx --plan plan.json --weights int8", monkeypatch)
    monkeypatch.setattr(plan_light, "LIMIT", 0)
    whole_text = (path.parent / "plan.json").read_text()
    for old, new, fault in (
        ("\n}\n", "", "the plan is not valid JSON: Input data was truncated"),
        ('"data": "', '"data": "?', "].data: Invalid base64 encoded string"),
        ('"format": 1', '"format": 2', "this is not a plan of format 1"),
    ):
        (path.parent / "plan.json").write_text(whole_text.replace(old, new))
        assert main(["apply", "plan.json", "model.onnx", "-o", "again.onnx"]) == 2
        assert fault in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "short", "no type", "no name", "no operator"])
def test_what_the_checker_says_of_the_skeleton_it_says_of_the_file(
    damage: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(monkeypatch)
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "w")
    if damage == "short":
        tensor.raw_data = tensor.raw_data[:-4]
    elif damage == "no type":
        tensor.data_type = 0
    elif damage == "no name":
        tensor.ClearField("name")
    elif damage == "no operator":
        model.graph.node[0].op_type = "None"
    onnx.save(model, path)
    with referencing():
        assert whole.is_light(light := read_model(path))
        assert checker.fault_of(light, path) == checker.fault_in(path)
    assert bool(checker.fault_in(path)) == bool(damage)


def test_the_checker_reads_no_large_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch)
    monkeypatch.setattr(checker, "fault_in", lambda file: pytest.fail(f"{file} is read"))
    run(path.parent, "fix model.onnx -o out.onnx", monkeypatch)


def test_a_damaged_weight_has_the_usual_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(path)
    model.graph.initializer[-1].dims[:] = [SIDE, SIDE + 1]
    onnx.save(model, path)
    errors = []
    for light in (False, True):
        seen = inside(monkeypatch) if light else [True]
        assert main(["check", str(path)]) == 2
        errors.append(capsys.readouterr().err)
        assert seen == [True]
    assert errors[0] == errors[1] and "needs 65792 bytes and has 65536" in errors[0]


def test_an_input_that_changes_is_refused_and_nothing_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inside(monkeypatch)

    def change(original: onnx.ModelProto, new: onnx.ModelProto, accepted: onnx.ModelProto | None) -> None:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        refuse_unsound(original, new, accepted)

    monkeypatch.setattr(results, "refuse_unsound", change)
    assert main(["fix", str(path), "-o", str(path.parent / "out.onnx"), "--no-numerics"]) == 2
    assert f"{path} was changed while it was read: run the command again" in capsys.readouterr().err
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]


def test_where_no_file_can_be_created_new_weights_stay_in_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch)
    run(path.parent, "fix model.onnx -o out.onnx --weights int8", monkeypatch)

    def full(**arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(results, "refuse_outputs", lambda *arguments: None)
    monkeypatch.setattr("qdqgraph.api.steps.refuse_outputs", lambda *arguments: None)
    monkeypatch.setattr("qdqgraph.model.writing.models.refuse_to_overwrite", lambda *arguments, **more: None)
    run(path.parent, "fix model.onnx -o again.onnx --weights int8 --no-numerics", monkeypatch)
    assert (path.parent / "again.onnx").read_bytes() == (path.parent / "out.onnx").read_bytes()


def test_a_saved_plan_of_external_data_contains_new_weights_as_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API keeps them in memory; the command line, in a file until the end."""
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.data")
    kept = qdqgraph.fix(path, output=path.parent / "kept.onnx", plan=path.parent / "kept.json", weights="int8")
    seen: list[int] = []
    text = Plan.blocks

    def blocks(plan: Plan) -> Any:
        seen.append(sum(len(edit.data) for edit in plan.edits if hasattr(edit, "data")))
        return text(plan)

    monkeypatch.setattr(Plan, "blocks", blocks)
    run(path.parent, "fix model.onnx -o out.onnx --plan plan.json --weights int8", monkeypatch)
    assert (path.parent / "out.onnx").read_bytes() == (path.parent / "kept.onnx").read_bytes()
    assert (path.parent / "plan.json").read_bytes() == (path.parent / "kept.json").read_bytes()
    assert seen[0] < SIDE * SIDE < sum(len(edit.data) for edit in kept.plan.edits if hasattr(edit, "data"))
    assert not list(path.parent.glob(".*"))

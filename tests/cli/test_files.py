"""Files: which are written and never lost, which cannot be used, and what models of many kinds need."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph.cli.main import main
from tests.support.commands import TEXT, saved
from tests.support.models import build


def test_a_link_stays_and_the_file_that_it_names_is_written(model: Path, tmp_path: Path) -> None:
    link, named = tmp_path / "latest.onnx", tmp_path / "models" / "first.onnx"
    named.parent.mkdir()
    link.symlink_to(named)
    assert main(["fix", str(model), "-o", str(link)]) == 0
    assert link.is_symlink() and main(["check", str(named)]) == 0


def test_a_model_and_its_plan_are_two_files(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = tmp_path / "both"
    for force in ([], ["--force"]):
        assert main(["fix", str(model), "-o", str(both), "--plan", str(tmp_path / "." / "both"), *force]) == 2
        assert "is given for both the model and its plan" in capsys.readouterr().err and not both.exists()


def test_existing_files_need_force(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.onnx"
    out.write_text("old")
    assert main(["fix", str(model), "-o", str(out)]) == 2
    assert "--force" in capsys.readouterr().err and out.read_text() == "old"
    assert main(["fix", str(model), "-o", str(out), "--force"]) == 0
    assert main(["check", str(out)]) == 0


def test_a_model_is_replaced_only_with_a_plan_that_restores_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, plan = model.read_bytes(), str(tmp_path / "plan.json")
    for force in ([], ["--force"]):
        for command in (["fix"], ["strip", "--nodes", "*"]):
            assert main([command[0], str(model), "-o", str(model.parent / "." / model.name), *command[1:], *force]) == 2
            assert "its original would be lost" in capsys.readouterr().err and model.read_bytes() == before
    assert main(["fix", str(model), "-o", str(model), "--force", "--plan", plan]) == 0
    assert main(["check", str(model)]) == 0
    assert main(["undo", plan, str(model), "-o", str(model), "--force"]) == 0 and model.read_bytes() == before


def test_only_a_file_is_ever_replaced(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, said in (
        (tmp_path, "is a folder"),
        (pipe, "is a device or a pipe"),
        (tmp_path / "no" / "f", "does not exist"),
    ):
        for command in ("fix", "engine forecast"):
            assert main([*command.split(), str(model), "-o", str(path), "--force"]) == 2
            assert said in capsys.readouterr().err
    assert pipe.is_fifo() and sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "pipe"]


def test_files_that_cannot_be_read_are_named_once(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(model), "--config", "missing.toml"]) == 2
    assert capsys.readouterr().err == "qdqgraph: missing.toml: cannot be read: No such file or directory\n"
    assert main(["apply", str(model), str(model), "-o", "out.onnx"]) == 2
    assert (
        capsys.readouterr().err
        == f"qdqgraph: {model}: this is an ONNX model, not a plan of qdqgraph; the plan comes first: PLAN MODEL\n"
    )
    assert main(["rules", "pages", "-o", str(model)]) == 2
    assert "the folder cannot be created: File exists" in capsys.readouterr().err


def test_pages_of_rules_are_overwritten_with_force_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    words = ["rules", "pages", "-o", str(tmp_path)]
    assert main(words) == 2 and [file.name for file in tmp_path.iterdir()] == ["README.md"]
    assert "README.md exists; use --force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0 and (tmp_path / "QDQ101.md").is_file()


BAD = {
    "empty": b"",
    "text": b"this is no model\n" * 10,
    "truncated": None,
    "a zip": b"PK\x03\x04" + bytes(200),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["check", "fix", "diff"])
def test_bad_files_get_one_sentence(
    name: str, command: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, bad = BAD[name], tmp_path / "bad.onnx"
    bad.write_bytes(model.read_bytes()[:-40] if content is None else content)
    more = {"check": [], "fix": ["-o", str(tmp_path / "out.onnx")], "diff": [str(model)]}[command]
    assert main([command, str(bad), *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"qdqgraph: {bad}: ") and error.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.onnx", "model.onnx"]


def test_a_float_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = Relu (x) }")
    assert main(["check", str(path)]) == 2
    assert "no QuantizeLinear or DequantizeLinear" in capsys.readouterr().err


def test_external_data_travel_or_are_missed(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    elsewhere.mkdir()
    big = build(TEXT)
    big.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(5000, np.float32), "weights"))
    source = there / "big.onnx"
    onnx.save(big, source, save_as_external_data=True, location="big.data", size_threshold=1000)
    data = (there / "big.data").read_bytes()
    assert main(["fix", str(source), "-o", str(elsewhere / "fixed.onnx")]) == 0
    (copy,) = elsewhere.glob("fixed.onnx.*.data")
    assert copy.read_bytes() == data
    assert onnx.load(elsewhere / "fixed.onnx").graph.initializer[-1].name
    (there / "big.data").write_bytes(data[:-1])
    assert main(["fix", str(source), "-o", str(tmp_path / "no.onnx")]) == 2
    assert "big.data is too short for 'weights'; it may be truncated" in capsys.readouterr().err
    (there / "big.data").unlink()
    assert main(["fix", str(source), "-o", str(tmp_path / "no.onnx")]) == 2
    assert "big.data of 'weights' is missing" in capsys.readouterr().err
    assert not (tmp_path / "no.onnx").exists()


def test_dynamic_shapes_custom_operators_and_several_opsets_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = build(TEXT.replace("float[1,4,8,8] x", "float[N,4,H,W] x").replace("float[1,4,8,8]", "float[N,4,H,W]"))
    made.opset_import.append(onnx.helper.make_opsetid("custom", 1))
    made.graph.node.append(onnx.helper.make_node("Mystery", ["y"], ["m"], domain="custom"))
    made.graph.output.append(onnx.helper.make_tensor_value_info("m", onnx.TensorProto.FLOAT, None))
    path = tmp_path / "custom.onnx"
    onnx.save(made, path)
    assert main(["fix", str(path), "-o", str(tmp_path / "fixed.onnx")]) == 0
    said = capsys.readouterr()
    assert "not compared" in said.out and "onnxruntime" in said.out
    assert "qdqgraph: the repaired model was not compared with the original: onnxruntime cannot run" in said.err
    assert "onnx.checker also rejects the original" in said.err

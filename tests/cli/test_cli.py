"""The command line as a user meets it: exit codes, files whole or not at all, pipes, bad input in one sentence."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph.cli.main import main
from qdqgraph.model.wellformed import UNREAD
from tests.support.models import build

TEXT = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"
CLEAN = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"
ILLEGAL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) <float s = {0}, int8 z = {0}, float t = {0.1}, int8 o = {3}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Sigmoid (d)
    p = QuantizeLinear (x, t, o) v = DequantizeLinear (p, t, o) }"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(build(TEXT), path)
    return path


def saved(folder: Path, text: str, name: str = "other.onnx") -> Path:
    onnx.save(build(text), folder / name)
    return folder / name


def test_check_exit_codes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(saved(tmp_path, CLEAN))]) == 0
    verdict, share = capsys.readouterr().out.splitlines()
    assert verdict.endswith("other.onnx: no findings; 1 of 1 weighted layers in INT8")
    assert share == "1 of 1 weighted layers in INT8, 2.560 kB a run (forecast for trt-10)"
    assert main(["check", str(model), "--full"]) == 1
    verdict, *lines = capsys.readouterr().out.splitlines()
    assert verdict == f"{model}: 1 finding that costs 1.024 kB a run (25.0 %); 2 of 2 weighted layers in INT8"
    (line,) = (each for each in lines if each.startswith(f"{model}: a: QDQ104 "))
    assert "'a' is quantized 2 times, with different scales: 0.1 ('a'), 0.11 ('a'); costs 1,024 bytes a run; " in line
    assert lines[-1].startswith(f"1 finding, 1 repairable: qdqgraph fix {model} -o ")
    assert main(["check", str(tmp_path / "missing.onnx")]) == 2


def test_check_formats(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(model), "--json"]) == 1
    shown = capsys.readouterr().out
    assert main(["check", str(model), "--format", "json"]) == 1
    assert capsys.readouterr().out == shown
    (entry,) = json.loads(shown)["files"][0]["findings"]
    assert (entry["code"], entry["place"], entry["repairable"], entry["sites"]) == ("QDQ104", "a", True, ["a"])
    assert main(["check", str(model), "--format", "github"]) == 1
    assert capsys.readouterr().out.startswith(f"::warning file={model},title=QDQ104 tensor-quantized-twice::a: ")


def test_select_and_ignore(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(model), "--ignore", "QDQ1"]) == 0
    assert main(["check", str(model), "--select", "QDQ101,QDQ2"]) == 0
    assert main(["check", str(model), "--select", "QDQ999"]) == 2
    assert "no rule matches 'QDQ999'" in capsys.readouterr().err


def test_fix_writes_checks_and_reports(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fixed.onnx"
    assert main(["fix", str(model), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "Repaired (1)" in lines and "QDQ104 tensor-quantized-twice 1 a" in lines
    assert "activation pairs 2 1 0 added, 1 removed" in lines
    assert "worst bits lost 0.14 of 1 changed scale, at a" in lines
    assert f"Wrote {out}" in lines and "SQNR" in printed and all(line == line.rstrip() for line in printed.splitlines())
    assert main(["check", str(out)]) == 0


def test_fix_apply_undo_and_diff(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed, plan, applied, undone = (tmp_path / n for n in ("fixed.onnx", "plan.json", "applied.onnx", "undone.onnx"))
    assert main(["fix", str(model), "-o", str(fixed), "--plan", str(plan), "--diff"]) == 0
    assert "- a__" not in capsys.readouterr().out
    assert main(["apply", str(plan), str(model), "-o", str(applied)]) == 0
    assert applied.read_bytes() == fixed.read_bytes()
    assert main(["undo", str(plan), str(fixed), "-o", str(undone)]) == 0
    assert undone.read_bytes() == model.read_bytes()
    capsys.readouterr()
    assert main(["diff", str(model), str(undone)]) == 0
    assert main(["diff", str(model), str(fixed)]) == 1
    assert capsys.readouterr().out == "~ 'a': scale 0.1 and 0.11 -> 0.11\n"
    assert main(["apply", str(plan), str(fixed), "-o", str(tmp_path / "no.onnx")]) == 2
    assert "undo it instead" in capsys.readouterr().err


def test_dry_run_writes_nothing_and_json_is_json(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fix", str(model), "--dry-run", "--json", "--no-numerics"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["written"] is None and content["numeric_check"] is None
    assert content["pairs"] == {"before": 2, "after": 1, "added": 0, "removed": 1}
    assert [round(c["bits_lost"], 2) for c in content["changes"]] == [0.14]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx"]


def test_exact_only_and_except(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--exact"], ["--only", "y"], ["--except", "a"], ["--max-bits-lost", "0.1"]):
        assert main(["fix", str(model), "--dry-run", "--json", *options]) == 0
        content = json.loads(capsys.readouterr().out)
        assert content["edits"] == 0 and [f["code"] for f in content["left"]] == ["QDQ104"], options


def test_an_illegal_model_is_refused_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fixed.onnx"
    assert main(["fix", str(saved(tmp_path, ILLEGAL)), "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert "TensorRT 10.2 to 10.16 would refuse the model:" in error
    assert "q: QDQ403 the scale of 'x' is 0" in error and "add --also QDQ403" in error and "QDQ401" not in error
    assert not out.exists()


def test_many_refusals_for_one_reason_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = " ".join(f"a{i} = Neg (b{i - 1}) b{i} = t.pair (a{i}, zero)" for i in range(1, 6))
    text = f"g (float[1,4,8,8] b0) => (float[1,4,8,8] b5) <float zero = {{0.0}}> {{ {chain} }}"
    assert main(["fix", str(saved(tmp_path, text)), "--dry-run"]) == 2
    _, line, advice = capsys.readouterr().err.splitlines()
    assert line.strip().startswith("QDQ403 at 5 places, first at q__1: the scale of 'a1' is 0") and "QDQ403" in advice


def test_a_repair_on_request_and_one_that_exact_forbids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = saved(tmp_path, ILLEGAL), tmp_path / "fixed.onnx"
    assert main(["fix", str(path), "-o", str(out), "--also", "QDQ403", "--exact"]) == 2
    assert "lossy repairs exist: omit --exact" in capsys.readouterr().err
    assert main(["fix", str(path), "-o", str(out), "--also", "scale-not-positive", "-v"]) == 0
    shown = capsys.readouterr().out
    assert "QDQ401 the zero-point of 'x' is 3" in shown and "loses 0.04 bits of resolution" in shown
    assert main(["check", str(out), "--select", "QDQ4"]) == 0
    assert main(["fix", str(path), "-o", str(out), "--force", "--also", "QDQ999"]) == 2
    assert "no rule matches 'QDQ999'" in capsys.readouterr().err


def test_check_says_what_other_targets_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """g (float[1,2,4,4] x) => (float[1,3,8,8] y) <float s = {0.1}, int8 z = {0}, int8[2,3,2,2] w = {WEIGHTS},
        float[3] sw = {0.1, 0.1, 0.1}, int8[3] zw = {0, 0, 0}> {
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) k = DequantizeLinear <axis = 1> (w, sw, zw)
        y = ConvTranspose <strides = [2, 2]> (d, k) }"""
    path = saved(tmp_path, text.replace("WEIGHTS", ", ".join(map(str, range(24)))))
    assert main(["check", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "only on trt-8.6: k: QDQ405 the weights 'w' are quantized along axis 1" in said
    assert main(["check", str(path), "--target", "trt-8.6"]) == 1
    assert "QDQ405" in capsys.readouterr().out
    assert main(["fix", str(path), "--target", "trt-8.6", "-o", str(tmp_path / "fixed.onnx")]) == 0
    assert main(["check", str(tmp_path / "fixed.onnx"), "--target", "trt-8.6"]) == 0


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


def test_names_that_the_model_does_not_have_are_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--only", "--except"):
        assert main(["fix", str(model), "--dry-run", option, "nowhere*"]) == 2
        assert "no node or tensor matches 'nowhere*'" in capsys.readouterr().err
    for command in (["check"], ["fix", "--dry-run"]):
        assert main([*command, str(model), "--policy", "anchor:nowhere"]) == 2
        assert "policy anchor:nowhere: the model has no tensor 'nowhere'" in capsys.readouterr().err


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


def test_data_for_the_numeric_check(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "good.npz", x=np.random.default_rng(0).normal(size=(3, 4, 8, 8)))
    assert main(["fix", str(model), "--dry-run", "--data", str(tmp_path / "good.npz")]) == 0
    assert "on 3 samples of your data" in " ".join(capsys.readouterr().out.split())
    np.savez(tmp_path / "bad.npz", image=np.zeros((1, 4, 8, 8)))
    assert main(["fix", str(model), "--dry-run", "--data", str(tmp_path / "bad.npz")]) == 2
    assert "the model's inputs are ['x']" in capsys.readouterr().err


LOADER = """
import numpy as np


def load_data():
    for value in range(4):
        yield {"x": np.full((1, 4, 8, 8), value / 4, np.float32)}


def broken():
    yield {"x": np.zeros((1, 4, 8, 8), np.float32)}
    raise RuntimeError("no more disks")
"""


def test_data_of_a_function_in_a_file_or_module(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my-loader.py").write_text(LOADER)
    (tmp_path / "loader_of_test.py").write_text(LOADER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("my-loader.py:load_data", str(tmp_path / "my-loader.py:load_data"), "loader_of_test:load_data"):
        assert main(["fix", str(model), "--dry-run", "--data", name, "--samples", "3"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "on 3 samples of your data" in said and f"samples: {name}" in said
    for name, message in (
        ("my-loader.py:nothing", "my-loader.py has no 'nothing'"),
        ("none.py:load_data", "there is no file none.py"),
        ("no_such_module:load_data", "there is no module 'no_such_module'"),
    ):
        assert main(["fix", str(model), "--dry-run", "--data", name]) == 2
        assert message in capsys.readouterr().err
    assert main(["fix", str(model), "--dry-run", "--data", "my-loader.py:broken"]) == 2
    said = capsys.readouterr().err
    assert 'raise RuntimeError("no more disks")' in said
    assert "my-loader.py:broken failed with the RuntimeError above" in said


def test_pictures_say_what_was_done_to_them(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.full((10, 12, 3), 99, np.uint8)).save(tmp_path / "a.png")
    path = tmp_path / "three.onnx"
    onnx.save(build("g (float[N,3,4,4] x) => (float[N,3,4,4] y) { a = t.pair (x, s1) y = Relu (a) }"), path)
    assert main(["fix", str(path), "--dry-run", "--data", str(tmp_path), "--preprocess", "unit"]) == 0
    assert (
        "1 pictures of" in (said := " ".join(capsys.readouterr().out.split())) and "stretched to 4x4, rgb, nchw" in said
    )
    assert main(["fix", str(path), "--dry-run", "--data", str(tmp_path)]) == 2
    assert "pictures need --preprocess" in capsys.readouterr().err
    assert main(["fix", str(path), "--dry-run", "--preprocess", "unit"]) == 2
    assert "have an effect only with data" in capsys.readouterr().err


def test_a_fallback_provider_is_said(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    assert main(["fix", str(model), "--dry-run", "--provider", "cuda"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    said = "has no CUDAExecutionProvider here; the numeric check ran on the CPU" in shown
    assert said == ("CUDAExecutionProvider" not in onnxruntime.get_available_providers())


def test_explain_and_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "qdq101"]) == 0
    text = capsys.readouterr().out
    assert "Why: TensorRT moves the Q after a Concat" in text and "c = Concat <axis = 1> (da, b)" in text
    assert main(["explain", "QDQ999"]) == 2
    assert main(["rules", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 10


@pytest.mark.parametrize("command", ["check", "fix", "apply", "undo", "diff", "explain", "rules"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"qdqgraph {command} " in " ".join(capsys.readouterr().out.partition("\nexample")[2].split())


RULE = '''
from qdqgraph.rulekit import Counterexample, Example, Rule, Safety

class Mine(Rule):
    """Something."""
    code, name, safety = "{code}", "mine", Safety.MANUAL
    examples = [Example("a", "x"), Counterexample("b", "y")]
    def find(self, graph):
        {body}
'''


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_here", "does not load: ModuleNotFoundError"),
        ("x = 1", "contains no rule"),
        (RULE.format(code="QDQ101", body="yield"), "code QDQ101 is taken by"),
        (RULE.format(code="ABC1", body="yield"), "write letters, a band from 1 to 4 and two digits"),
        (RULE.format(code="QDQ190", body="raise KeyError('oops')"), "mine.py:9: KeyError: 'oops'"),
        (
            RULE.format(code="QDQ190", body="yield").replace("Safety.MANUAL", "'manual'"),
            "safety is 'manual'; write one of Safety.EXACT",
        ),
    ],
)
def test_bad_rule_files_stop_the_run(
    text: str, said: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "mine.py"
    rules.write_text(text)
    assert main(["check", str(model), "--rules", str(rules)]) == 2
    assert said in capsys.readouterr().err


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "qdqgraph", *arguments]


def test_a_closed_pipe_is_no_error(model: Path) -> None:
    with subprocess.Popen(program("explain", "QDQ203"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="only Linux has a file that is always full")
@pytest.mark.parametrize("command", ["explain QDQ203", "rules list"])
def test_a_full_disk_gets_one_sentence(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(program(*command.split()), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.stderr == "qdqgraph: the output cannot be printed: No space left on device\n" and run.returncode == 2


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    branches = "".join(f" a{i} = Relu (x) y{i} = t.conv4 (a{i}, s1) v{i} = t.conv4 (a{i}, s2)" for i in range(400))
    model = saved(tmp_path, f"g (float[1,4,8,8] x) => (float[1,4,8,8] y0) {{{branches} }}")
    out = tmp_path / "out" / "fixed.onnx"
    out.parent.mkdir()
    with subprocess.Popen(
        program("fix", str(model), "-o", str(out)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as run:
        time.sleep(1.0)
        os.kill(run.pid, signal.SIGINT)
        _, error = run.communicate(timeout=30)
    if run.returncode == 0:
        pytest.skip("the repair was faster than the signal")
    assert run.returncode in (130, -signal.SIGINT)
    assert list(out.parent.iterdir()) == []
    assert b"Traceback" not in error or b"KeyboardInterrupt" in error


def test_output_in_a_pipe_has_no_escape_codes_and_whole_names(model: Path) -> None:
    run = subprocess.run(program("check", str(model)), capture_output=True, text=True, check=False)
    assert "\x1b" not in run.stdout and run.stderr == ""
    first, *lines, last = run.stdout.splitlines()
    assert first.startswith(f"{model}: ") and max(map(len, lines)) <= 80, "the command of the last line is not broken"
    assert last.startswith(f"1 finding, 1 repairable: qdqgraph fix {model} ")


FLOAT = f"""g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] w = {{{", ".join(["0.5"] * 16)}}}> {{
    p = t.pair (x, s1) r = Relu (p) y = Conv (r, w) }}"""
"""A pair, and a convolution in float: no finding, and nothing gains from the pair."""


def test_a_file_without_findings_of_which_nothing_runs_in_int8_is_not_just_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, FLOAT)
    assert main(["check", str(path)]) == 0, "findings decide the exit code"
    assert capsys.readouterr().out.startswith(
        f"{path}: no findings, but no weighted layer runs in INT8\n0 of 1 weighted "
    )
    assert main(["check", str(path), "--format", "github"]) == 0
    assert capsys.readouterr().out.startswith(f"::warning file={path},title=INT8%2C by the forecast::0 of 1 ")


def test_fix_says_what_runs_in_int8_before_and_after(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fix", str(model), "--dry-run", "--no-numerics"]) == 0
    first, *lines, last = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert first == f"{model}: 1 finding repaired; 2 of 2 weighted layers in INT8; 4.096 kB -> 3.840 kB a run"
    assert "INT8 layers 2 of 2 2 of 2 forecast for trt-10" in lines and last == "dry run: nothing written"
    assert "bytes between kernels 4.096 kB 3.840 kB" in lines and "kernels 3 3" in lines
    assert main(["fix", str(model), "--dry-run", "--no-numerics", "--json"]) == 0
    shares = json.loads(capsys.readouterr().out)["int8"]
    assert [shares[when]["int8_layers"] for when in ("before", "after")] == [2, 2]
    assert shares["after"]["bytes"] < shares["before"]["bytes"]


def test_allow_worse_needs_a_build(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fix", str(model), "--dry-run", "--allow-worse"]) == 2
    assert "--allow-worse has an effect only with --verify" in capsys.readouterr().err


@pytest.mark.skipif(bool(UNREAD), reason="this onnx does not read these types; such models are refused")
@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN"])
def test_stdout_is_json_alone_for_types_that_numpy_lacks(kind: str, tmp_path: Path) -> None:
    """onnx-graphsurgeon would print a warning for each such type to stdout."""
    wide = kind == "BFLOAT16"
    real, integer = ("bfloat16", "int8") if wide else ("float", "float8e4m3fn")
    text = f"""<ir_version: 10, opset_import: ["" : 22]> g ({real}[1,4] x) => ({real}[1,4] y) {{
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Relu (d) }}"""
    made = onnx.parser.parse_model(text)
    types = {"s": real, "z": integer}
    for name, value in (("s", 0.5), ("z", 0.0)):
        of_type = getattr(onnx.TensorProto, {"float": "FLOAT"}.get(types[name], types[name].upper()))
        made.graph.initializer.append(onnx.helper.make_tensor(name, of_type, [], [value]))
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(made, path)
    for words in (("check", "--format", "json"), ("fix", "--json", "-o", str(out))):
        run = subprocess.run(program(words[0], str(path), *words[1:]), capture_output=True, text=True, check=False)
        assert json.loads(run.stdout)["schema"], run.stdout


def test_fix_states_the_raised_opset_and_the_inlined_functions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """<ir_version: 8, opset_import: ["" : 10, "local" : 1]>
        g (float[1,2] x) => (float[1,2] y)
        <float s = {0.1}, int8 z = {0}, int8[2,2] w = {1, 2, 3, 4}, float[2] t = {0.1, 0.2}, int8[2] u = {0, 0}> {
            a = local.Pair (x, s, z) k = DequantizeLinear (w, t, u) y = MatMul (a, k) }
        <domain: "local", opset_import: ["" : 10]>
        Pair (x, s, z) => (y) { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    assert main(["fix", str(path), "-o", str(out)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "functions inlined 1 local.Pair" in lines
    assert any(line.startswith("opset 10 13 the DequantizeLinear") for line in lines)
    assert main(["fix", str(path), "-o", str(out), "--force", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["functions"] == ["local.Pair"]
    assert (record["opset"]["before"], record["opset"]["after"]) == (10, 13)

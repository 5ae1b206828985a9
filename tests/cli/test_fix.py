"""`fix`: what it writes, prints and refuses; plans of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from qdqgraph.cli.main import main
from tests.support.commands import ILLEGAL, saved
from tests.support.models import build


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


def test_layers_that_leave_int8_are_named_with_the_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorRT has no 16-bit pairs, so they go, and data do not bring back others: `strip` and `quantize` do."""
    monkeypatch.chdir(tmp_path)
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float s = {0.001}, int16 z = {0}> {
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) w = Constant <value = int8[4,4,1,1] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> ()
        k = DequantizeLinear (w, s1) y = Conv (d, k) }"""
    onnx.save(build(text, opset=21), "m.onnx")
    np.savez("x.npz", x=np.random.default_rng(0).normal(size=(2, 4, 8, 8)).astype(np.float32))
    for data in ([], ["--data", "x.npz"]):
        assert main(["fix", "m.onnx", "-o", "fixed.onnx", "--force", *data]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "1 layer left INT8" in said and "remove all (strip --nodes '*'), then quantize" in said
    assert main(["strip", "m.onnx", "--nodes", "*", "-o", "float.onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[-1] == "Wrote float.onnx"
    assert main(["quantize", "float.onnx", "-o", "int8.onnx", "--data", "x.npz"]) == 0
    assert "1 of 1 weighted layers in INT8" in " ".join(capsys.readouterr().out.split())


def test_strip_counts_what_it_does_not_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    body = "".join(f"a{i + 1} = t.conv4 (a{i}, s1) " for i in range(12)).replace("a0,", "x,").replace("a12 =", "y =")
    onnx.save(build(f"g (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {body} }}"), "m.onnx")
    assert main(["strip", "m.onnx", "--nodes", "*", "-o", "float.onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "m.onnx: 4 more inputs and outputs now have the float values, all with --json",
        "Wrote float.onnx",
    ]
    assert len(lines) == 22


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


def test_names_that_the_model_does_not_have_are_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--only", "--except"):
        assert main(["fix", str(model), "--dry-run", option, "nowhere*"]) == 2
        assert "no node or tensor matches 'nowhere*'" in capsys.readouterr().err
    for command in (["check"], ["fix", "--dry-run"]):
        assert main([*command, str(model), "--policy", "anchor:nowhere"]) == 2
        assert "policy anchor:nowhere: the model has no tensor 'nowhere'" in capsys.readouterr().err


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

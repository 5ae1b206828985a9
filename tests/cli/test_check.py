"""`check`: exit codes, formats, what of the file runs in INT8."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdqgraph.cli.main import main
from tests.support.commands import CLEAN, saved


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

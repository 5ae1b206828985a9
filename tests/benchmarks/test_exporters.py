"""`benchmarks.exporters`: measured cells are kept, and known by the code that measured them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

import qdqgraph
from benchmarks.exporters import __main__ as program
from benchmarks.exporters.measure import APART, code, losses
from qdqgraph.rulekit import catalog
from qdqgraph.versions import tomllib
from tests.support.models import build
from tests.support.paths import PACKAGE

OLD = "Measured with other rules or sources than today's: yolox"


def test_a_cell_of_other_code_is_kept_named_and_measured_anew_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> list[dict[str, object]]:
        """The rows in the results afterwards."""
        options = ["--exporter", "ort-default", "--network", "yolox"]
        monkeypatch.setattr(sys, "argv", ["exporters", words[0], str(tmp_path), *words[1:], *options])
        program.main()
        return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]

    results, wheels = tmp_path / "results.jsonl", ("--wheels", str(tmp_path))
    (tmp_path / "yolox.ort-default.onnx").write_bytes(b"no model")
    (row,) = run("measure", *wheels)
    assert row["code"] == code() and row["failed"]
    assert run("measure", *wheels) == [row] == run("measure", *wheels, "--anew") == run("table")
    assert OLD not in capsys.readouterr().out
    before = {name: value for name, value in row.items() if name != "code"}  # as rows were, before they told
    results.write_text(json.dumps(before) + "\n", encoding="utf-8")
    assert run("measure", *wheels) == [before] == run("table")
    assert OLD in capsys.readouterr().out
    assert [r.get("code") for r in run("measure", *wheels, "--anew")] == [None, code()]
    run("table")
    assert OLD not in capsys.readouterr().out


def test_other_rules_are_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "builtin_folder", lambda: tmp_path)
    rule = tmp_path / "rule.toml"
    found = []
    for text in ("one", "two", "one"):
        rule.write_text(text)
        found.append(code.__wrapped__())
    assert found[0] == found[2] != found[1]


def test_code_is_what_fix_and_the_engines_are_made_of_and_nothing_above_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    floors = [set(floor.split(" | ")) for floor in contract["layers"]]
    above = {name for floor in floors[: floors.index({"api"})] for name in floor} | {"authoring", "torch"}
    assert {name.removesuffix(".py") for name in APART} == above, "floors decide who may import whom"
    copied = tmp_path / "qdqgraph"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("qdqgraph.__file__", str(copied / "__init__.py"))
    today = code.__wrapped__()
    for name in ("cli/torch.py", "torch/linking/link.py"):
        (copied / name).write_text("another")
        assert code.__wrapped__() == today
    for name in ("repair/solver.py", "engines/builders/tensorrt_child.py", "targets/trt-10.toml"):
        (copied / name).write_text(f"another {name}")
        assert code.__wrapped__() != today
        today = code.__wrapped__()


def test_the_bits_of_a_cell_are_those_of_the_repairs_and_of_the_changed_scales() -> None:
    shape = "float[1,4,8,8]"
    asymmetric = f"g ({shape} x) => ({shape} y) <int8 z = {{3}}> {{ q = QuantizeLinear (x, s1, z) y = DequantizeLinear (q, s1, z) }}"
    tied = f"g ({shape} x) => ({shape} y, {shape} v) {{ a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }}"
    skip = f"g ({shape} x) => ({shape} y) {{ a = Relu (x) c = t.conv4 (a, s1) b = Add (c, a) y = t.conv4 (b, s2) }}"
    found = [losses(qdqgraph.fix(build(text))) for text in (asymmetric, tied, skip)]
    assert [bits for bits, _ in found] == pytest.approx([0.0447, 0.1375, 0.0], abs=1e-4)
    assert [moved for _, moved in found] == [{}, {}, {"QDQ201": 1}]

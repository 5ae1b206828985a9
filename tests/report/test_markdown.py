"""Markdown of check and fix, as GitHub renders it: tables with a row for each rule and finding, and names that stay text."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import onnx
import pytest
from markdown_it import MarkdownIt

import qdqgraph
from qdqgraph.cli.main import main
from qdqgraph.report import markdown
from qdqgraph.report.formats import FileFindings
from qdqgraph.rulekit import Finding
from tests.support.findings import FOUND, printed
from tests.support.models import UNSIGNED, build

MODEL = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v, float[1,8,8,8] w) <float big = {0.5}> {
    a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2)
    c = t.conv4 (x, s4) p = t.pair (c, s1) e = Concat <axis = 1> (c, a) w = t.pair (e, big) }"""
CLEAN = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"
EVIL = "a`b|c\n<script>\x1b[31m [x](http://y) @team ![i](j) **z**"


def rendered(text: str) -> str:
    """The HTML of Markdown with tables."""
    return MarkdownIt("commonmark").enable("table").render(text)


def rows(html: str) -> list[list[str]]:
    """The cells of all rows of all tables, as text."""
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in html.split("<tr>")[1:]]
    return [[unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row] for row in cells]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(build(MODEL), "model.onnx")
    onnx.save(build(CLEAN), "clean.onnx")


@pytest.mark.usefixtures("models")
def test_check_has_a_section_for_each_model_with_its_rules_and_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.onnx", "clean.onnx", "--no-config", "--format", "markdown"]) == 1
    html = rendered(capsys.readouterr().out)
    assert re.findall(r"<h2><code>(.*?)</code></h2>", html) == ["model.onnx", "clean.onnx"]
    found = rows(html)
    assert ["QDQ104", "tensor-quantized-twice", "1", "1", "", ""] in [row[:6] for row in found]
    assert ["QDQ101", "e"] in [row[:2] for row in found]
    assert re.search("<strong>no finding[^<]*1 weighted layer", html)
    assert "A repair leaves:" in html, "the guard refuses the Concat's tie"
    assert html.count("<details>") == 1, "a clean model has no list"


@pytest.mark.usefixtures("models")
def test_fix_prints_before_and_after_what_was_repaired_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    command = ["fix", "model.onnx", "-o", "out.onnx", "--no-config", "--plan", "plan.json", "--format", "markdown"]
    assert main(command) == 0
    html = rendered(capsys.readouterr().out)
    assert "Written: <code>out.onnx</code>, plan <code>plan.json</code>." in html and Path("plan.json").exists()
    assert re.findall("<h3>(.*?) \\(", html) == ["Repaired", "Left"]
    found = rows(html)
    assert found[0] == ["", "before", "after", ""]
    names = [row[0] for row in found[1:]]
    assert {"findings", "INT8 layers", "bytes between kernels", "kernels", "reformats", "SQNR"} <= set(names)
    assert ["QDQ104", "tensor-quantized-twice", "1", "a"] in found
    (left,) = [row for row in found if row[:1] == ["QDQ101"] and len(row) == 5]
    assert "bits" in left[3] and left[4] == "e"


@pytest.mark.usefixtures("models")
def test_a_dry_run_says_that_nothing_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fix", "clean.onnx", "--dry-run", "--no-numerics", "--no-config", "--format", "markdown"]) == 0
    html = rendered(capsys.readouterr().out)
    assert re.search("<strong>nothing to repair[^<]*</strong> Dry run: nothing was written.", html)
    assert "<h3>" not in html and "SQNR" not in html


@pytest.mark.usefixtures("models")
def test_quantize_prints_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    text = (
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,1,1,1] w = {1, 2, 3, 4}> { y = Conv <group = 4> (x, w) }"
    )
    onnx.save(build(text), "float.onnx")
    np.savez("data.npz", x=np.ones((2, 4, 8, 8), np.float32))
    assert (
        main(["quantize", "float.onnx", "--dry-run", "--data", "data.npz", "--no-config", "--format", "markdown"]) == 0
    )
    assert ["INT8 layers", "0 of 1", "1 of 1"] in [row[:3] for row in rows(rendered(capsys.readouterr().out))]


def shown(*findings: Finding, path: str = "m.onnx") -> str:
    return printed("markdown", FileFindings(path, findings))


def test_a_name_stays_text_in_its_cell() -> None:
    html = rendered(shown(replace(FOUND, place=EVIL, message=f"the output '{EVIL}' @all", help=EVIL), path=EVIL))
    assert not re.search(r"<(script|a |img|strong)", html) and "\x1b" not in html
    (_, row) = rows(html)
    safe = EVIL.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert row[0] == "QDQ401" and row[1] == safe and row[2] == f"the output {safe} @\u200ball"
    assert row[3].startswith(safe.replace("@", "@\u200b")), "no mention outside code"


def test_a_long_list_is_cut_and_says_so() -> None:
    html = rendered(shown(*(replace(FOUND, place=f"t{i}") for i in range(markdown.MOST + 7))))
    assert len(rows(html)) == 1 + markdown.MOST and "<summary>The first 100 of 107 findings</summary>" in html


def test_a_finding_that_others_resolve_has_no_advice_of_its_own() -> None:
    rules = qdqgraph.rules(select=["QDQ402"])
    file = FileFindings.of(qdqgraph.check(build(UNSIGNED), rules, rehearse=True), rules)
    advice = [row[3] for row in rows(rendered(printed("markdown", file))) if len(row) == 4]
    assert advice.count("resolved by the repair of others") == 1 and len(advice) == 3


def test_findings_of_another_target_are_one_line() -> None:
    html = rendered(shown(*(replace(FOUND, place=f"t{i}", target="trt-8.6") for i in range(5))))
    assert "On trt-8.6 only: 5 findings, at <code>t0</code>, <code>t1</code>, <code>t2</code> and 2 more." in html


def test_a_file_that_cannot_be_checked_has_its_reason() -> None:
    text = printed("markdown", FileFindings("n.onnx", (), error="'n.onnx' is not an ONNX file"))
    assert "<strong>Not checked</strong>: <code>n.onnx</code> is not an ONNX file" in rendered(text)

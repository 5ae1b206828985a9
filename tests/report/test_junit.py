"""JUnit XML: valid by the schema of Jenkins' xUnit plugin; a finding is a failed test, a clean rule a passed one."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest
import xmlschema

from qdqgraph.cli.main import main
from qdqgraph.engines.share import Int8Share
from qdqgraph.report.formats import FileFindings
from qdqgraph.rulekit import catalog
from tests.support.findings import FOUND, printed
from tests.support.models import build
from tests.support.paths import DATA

SCHEMA = xmlschema.XMLSchema(DATA / "schemas" / "junit-10.xsd")
TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"
CLEAN = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = t.conv4 (x, s1) }"


def document(*files: FileFindings) -> ElementTree.Element:
    """The document, after its validation."""
    return parsed(printed("junit", *files))


def parsed(text: str) -> ElementTree.Element:
    text.encode("ascii")
    SCHEMA.validate(text)
    return ElementTree.fromstring(text)


def test_each_model_is_a_suite_with_a_failure_for_each_finding_and_a_pass_for_each_clean_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(build(TWICE), "twice.onnx")
    onnx.save(build(CLEAN), "clean.onnx")
    command = ["check", "twice.onnx", "clean.onnx", "--no-config", "--select", "QDQ1", "--format", "junit"]
    assert main(command) == 1
    top = parsed(capsys.readouterr().out)
    rules = [rule for rule in catalog.load(installed=False) if rule.code.startswith("QDQ1")]
    twice, clean = top.findall("testsuite")
    assert [s.get("name") for s in (twice, clean)] == ["twice.onnx", "clean.onnx"]
    assert (top.get("tests"), top.get("failures")) == (str(2 * len(rules)), "1")
    (failed,) = [case for case in twice.findall("testcase") if case.find("failure") is not None]
    assert failed.get("name") == "QDQ104 tensor-quantized-twice at x" and failed.get("classname") == "twice"
    failure = failed.find("failure")
    assert failure is not None and failure.get("type") == "warning" and (failure.text or "").startswith("x (")
    assert [case.get("name") for case in clean.findall("testcase")] == [f"{r.code} {r.name}" for r in rules]
    assert [len(s.findall("testcase")) for s in (twice, clean)] == [len(rules)] * 2
    assert "weighted layers in INT8" in clean.findtext("system-out", "")


def test_names_of_a_model_stay_text_in_valid_xml() -> None:
    name = "a<b>&\"'\x1b[31m\ufffe\nü::x]]>"
    (case,) = document(FileFindings("m.onnx", (replace(FOUND, place=name, message=name),))).iter("testcase")
    shown = "a<b>&\"'\\x1b[31m\\ufffe\\nü::x]]>"
    assert case.get("name") == f"QDQ401 zero-point-not-zero at {shown}"
    assert case.findtext("failure", "").startswith(f"{shown} (Quantize): {shown}; ")


def test_findings_of_another_target_are_left_out_and_what_runs_in_int8_is_output() -> None:
    share = Int8Share("forecast for trt-10", weighted=5, int8=3, tensors=7, bytes=12345)
    (suite,) = document(FileFindings("m.onnx", (replace(FOUND, target="trt-8.6"),), share))
    assert (suite.get("tests"), suite.get("failures")) == ("0", "0")
    assert suite.findtext("system-out") == share.sentence


def test_a_file_that_cannot_be_checked_is_an_error() -> None:
    top = document(FileFindings("m.onnx", (FOUND,)), FileFindings("n.onnx", (), error="n.onnx: not an ONNX file"))
    assert [top.get(count) for count in ("tests", "failures", "errors")] == ["2", "1", "1"]
    (error,) = top.iter("error")
    assert error.get("message") == "n.onnx: not an ONNX file"

"""SARIF: valid by the schema of OASIS, with what GitHub code scanning reads, and fingerprints that stay."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest

from qdqgraph import __version__
from qdqgraph.cli.main import main
from qdqgraph.engines.share import Int8Share
from qdqgraph.report.formats import FileFindings
from qdqgraph.rulekit import Finding, catalog
from tests.support.findings import FOUND, printed
from tests.support.models import build
from tests.support.paths import DATA

SCHEMA = jsonschema.Draft7Validator(json.loads((DATA / "schemas" / "sarif-2.1.0.schema.json").read_text("utf-8")))
TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"
ILLEGAL = """g (float[1,4,8,8] x) => (float[1,4,8,8] u) <int8 three = {3}> {
    q = QuantizeLinear (x, s3, three) d = DequantizeLinear (q, s3, three) u = Sigmoid (d) }"""
SHARE = Int8Share("forecast for trt-10", weighted=5, int8=0, tensors=0, bytes=12345)


def log(*files: FileFindings) -> Any:
    """The only run of the log, after its validation."""
    content = json.loads(printed("sarif", *files))
    SCHEMA.validate(content)
    (run,) = content["runs"]
    return run


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some models").mkdir()
    onnx.save(build(TWICE), "some models/twice.onnx")
    onnx.save(build(ILLEGAL), "illegal.onnx")


@pytest.mark.usefixtures("models")
def test_several_models_are_one_valid_document_with_a_result_for_each_finding(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["check", "some models/twice.onnx", str(Path("illegal.onnx").absolute()), "--no-config"]
    assert main([*command, "--json"]) == 1
    files = json.loads(capsys.readouterr().out)["files"]
    assert main([*command, "--format", "sarif"]) == 1
    content = json.loads(capsys.readouterr().out)
    SCHEMA.validate(content)
    (run,) = content["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("qdqgraph", __version__)
    listed = [(f["code"], f["place"], f["severity"]) for file in files for f in file["findings"]]
    assert len(listed) > 1
    assert listed == [
        (r["ruleId"], r["locations"][0]["logicalLocations"][0]["name"], r["level"]) for r in run["results"]
    ]
    assert [a["location"]["uri"] for a in run["artifacts"]] == ["some%20models/twice.onnx", "illegal.onnx"]
    assert [a["properties"]["int8"] for a in run["artifacts"]] == [file["int8"] for file in files]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert (
            place["artifactLocation"]["uri"] == run["artifacts"][place["artifactLocation"]["index"]]["location"]["uri"]
        )
    assert main([*command, "--format", "sarif"]) == 1
    assert json.loads(capsys.readouterr().out) == content, "the same run gives the same document"


@pytest.mark.usefixtures("models")
def test_a_rule_has_its_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "illegal.onnx", "--no-config", "--format", "sarif"])
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    rule = next(r for r in run["tool"]["driver"]["rules"] if r["id"] == "QDQ401")
    assert rule["name"] == "zero-point-not-zero" and rule["defaultConfiguration"] == {"level": "error"}
    assert rule["shortDescription"]["text"] in rule["fullDescription"]["text"]
    assert "Why: " in rule["help"]["text"] and "**Why**: " in rule["help"]["markdown"]
    assert "qdqgraph explain QDQ401" in rule["help"]["text"]
    assert rule["helpUri"].startswith("https://github.com/NVIDIA/TensorRT/")


def test_every_built_in_rule_has_a_valid_descriptor_within_the_limits_of_github() -> None:
    rules = catalog.load(installed=False)
    found = [replace(FOUND, code=rule.code, name=rule.name) for rule in rules]
    described = log(FileFindings("m.onnx", found, rules=rules))["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in described] == [rule.code for rule in rules]
    for rule in described:
        assert 0 < len(rule["shortDescription"]["text"]) <= len(rule["fullDescription"]["text"]) <= 1024
        assert " " not in rule.get("helpUri", "https://")


def test_a_clean_model_is_an_artifact_without_results() -> None:
    run = log(FileFindings("m.onnx", ()))
    assert run["results"] == [] and run["artifacts"][0]["location"]["uri"] == "m.onnx"


def test_a_finding_keeps_its_fingerprint_whatever_its_message_figures_and_file() -> None:
    def prints(*found: Finding, path: str = "m.onnx") -> list[str]:
        return [r["partialFingerprints"]["primaryLocationLineHash"] for r in log(FileFindings(path, found))["results"]]

    (own,) = prints(FOUND)
    assert own == "8adefcbe189bfca7:1", "equal in every version: GitHub opens another alert for another value"
    assert prints(replace(FOUND, message="other", bytes=0, bits_lost=None), path="n.onnx") == [own]
    others = prints(FOUND, FOUND, replace(FOUND, place="r"), replace(FOUND, code="QDQ402"))
    assert len({*others}) == 4 and others[0] == own


def test_figures_are_properties_and_unknown_ones_are_left_out() -> None:
    (known, unknown) = log(FileFindings("m.onnx", (FOUND, replace(FOUND, place="r", bits_lost=None))))["results"]
    assert known["properties"]["costBytes"] == 12345 and known["properties"]["bitsLost"] == 1.0056
    assert "bitsLost" not in unknown["properties"]


def test_that_nothing_runs_in_int8_is_a_notification() -> None:
    (run,) = log(FileFindings("m.onnx", (), SHARE))["invocations"]
    (notification,) = run["toolExecutionNotifications"]
    assert notification["level"] == "warning" and "no weighted layer runs in INT8" in notification["message"]["text"]
    assert log(FileFindings("m.onnx", (), replace(SHARE, int8=5)))["invocations"][0]["toolExecutionNotifications"] == []


def test_findings_of_another_target_are_left_out() -> None:
    assert log(FileFindings("m.onnx", (replace(FOUND, target="trt-8.6"),)))["results"] == []


def test_a_name_cannot_write_a_link_or_a_placeholder() -> None:
    found = replace(FOUND, message="the output of '[click](https://example.com)' and '{0}'")
    (result,) = log(FileFindings("m.onnx", (found,)))["results"]
    assert "'[click] (https://example.com)' and '{{0}}'" in result["message"]["text"]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("a:b%.onnx", "a%3Ab%25.onnx"),
        ("../m.onnx", "../m.onnx"),
        ("/elsewhere/a b.onnx", "file:///elsewhere/a%20b.onnx"),
    ],
)
def test_a_path_is_a_uri(path: str, uri: str) -> None:
    assert log(FileFindings(path, (FOUND,)))["artifacts"][0]["location"]["uri"] == uri


def test_a_file_that_cannot_be_checked_is_a_notification_and_the_run_not_successful() -> None:
    run = log(FileFindings("m.onnx", (FOUND,)), FileFindings("n.onnx", (), error="n.onnx: not an ONNX file"))
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False and len(run["results"]) == 1
    (notification,) = invocation["toolExecutionNotifications"]
    assert (notification["level"], notification["message"]["text"]) == ("error", "n.onnx: not an ONNX file")
    assert notification["locations"][0]["physicalLocation"]["artifactLocation"]["index"] == 1

"""Formats of findings: figures come from the fields of a finding, and a new format is one file."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from qdqgraph.cli.main import main
from qdqgraph.engines.share import Int8Share
from qdqgraph.report import formats
from qdqgraph.report.formats import FileFindings
from qdqgraph.rulekit import Finding
from tests.support.findings import FOUND, printed
from tests.support.models import build

TALLY = '''
"""How often each rule reports something."""

from collections import Counter


def render(files):
    for file in files:
        for code, count in Counter(finding.code for finding in file.here).items():
            yield f"{file.path} {code} {count}"
'''


def shown(name: str, *findings: Finding, int8: Int8Share | None = None) -> str:
    return printed(name, FileFindings("m.onnx", findings, int8))


@pytest.fixture
def tally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The one file of a format called "tally", in the folder of formats."""
    folder = tmp_path / "formats"
    folder.mkdir()
    (folder / "tally.py").write_text(TALLY)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(folder)])
    yield folder / "tally.py"
    sys.modules.pop("qdqgraph.report.formats.tally", None)


@pytest.mark.usefixtures("tally")
def test_a_file_in_the_folder_is_a_format_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(
        build(
            "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"
        ),
        tmp_path / "m.onnx",
    )
    assert main(["check", str(tmp_path / "m.onnx"), "--no-config", "--format", "tally"]) == 1
    assert capsys.readouterr().out == f"{tmp_path / 'm.onnx'} QDQ104 1\n"
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert ",".join((*formats.names(), "text")) in capsys.readouterr().out and "tally" in formats.names()


def test_an_unknown_format_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "m.onnx", "--format", "tally"])
    assert "there is no 'tally'; choose from github, json, junit, markdown, sarif, text" in capsys.readouterr().err


def test_github_tells_the_same() -> None:
    assert shown("github", FOUND) == (
        "::error file=m.onnx,title=QDQ401 zero-point-not-zero::q: the zero-point of 'x' is 3; "
        "costs 12,345 bytes a run; quantize symmetrically; loses 1.01 bits of resolution\n"
    )


def test_json_has_the_numbers_themselves() -> None:
    (file,) = json.loads(shown("json", FOUND))["files"]
    (entry,) = file["findings"]
    assert (entry["cost_bytes"], entry["bits_lost"], entry["message"]) == (12345, 1.0056, FOUND.message)


def test_unknown_figures_are_left_out() -> None:
    said = shown("github", replace(FOUND, bytes=0, bits_lost=None))
    assert "bytes" not in said and "bits" not in said and said.endswith("quantize symmetrically\n")


def test_a_refused_repair_says_why_and_not_what_it_would_do() -> None:
    said = shown("github", replace(FOUND, refused="it would cost 1.01 bits, the limit is 1"))
    assert said.endswith("it would cost 1.01 bits, the limit is 1\n") and "symmetrically" not in said


def test_what_another_target_alone_finds_is_no_finding_of_the_file() -> None:
    there = replace(FOUND, target="trt-8.6")
    assert shown("github", there) == ""
    assert json.loads(shown("json", there))["files"] == [{"file": "m.onnx", "findings": [], "int8": None, "error": ""}]


SHARE = Int8Share("forecast for trt-10", weighted=5, int8=3, tensors=7, bytes=12345)


def test_github_has_it_as_a_notice_and_as_a_warning_if_nothing_runs_in_int8() -> None:
    head = "file=m.onnx,title=INT8%2C by the forecast::"
    assert shown("github", int8=SHARE) == (
        f"::notice {head}3 of 5 weighted layers in INT8, 7 INT8 tensors, 12,345 bytes (forecast for trt-10)\n"
    )
    assert shown("github", int8=replace(SHARE, int8=0)).startswith(f"::warning {head}0 of 5 weighted layers in INT8")


def test_json_has_it_as_numbers() -> None:
    (file,) = json.loads(shown("json", int8=replace(SHARE, refused=("QDQ401",))))["files"]
    assert file["int8"] == {
        "source": "forecast for trt-10",
        "weighted_layers": 5,
        "int8_layers": 3,
        "int8_tensors": 7,
        "bytes": 12345,
        "tensors_of_unknown_size": 0,
        "refused_for": ["QDQ401"],
    }

"""What calls return shows itself: one line, a text, the document of --json, a table for notebooks; and what is logged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdqgraph
from qdqgraph.cli import main
from tests.support.commands import MODEL
from tests.support.models import build


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(4, 4, 8, 8)).astype(np.float32))
    return tmp_path / "data.npz"


class Cells(HTMLParser):
    """The elements and the texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def cells(html: str) -> Cells:
    found = Cells()
    found.feed(html)
    return found


def test_check_is_a_sequence_of_findings_that_knows_more() -> None:
    found = qdqgraph.check(build(MODEL), rehearse=True)
    assert [f.code for f in found] == [f.code for f in found.findings] and len(found) == 3 and found[-1] in found
    assert found[:1] == found.findings[:1] and found.repairable == found.findings
    assert found.int8.weighted == 2 and found.rehearsal is not None and found.rehearsal.left == ()
    assert not qdqgraph.check(qdqgraph.fix(build(MODEL)).model)


def test_the_documents_are_those_of_the_command_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(model), "--json", "--no-config"]) == 1
    assert json.loads(capsys.readouterr().out) == json.loads(qdqgraph.check(model).to_json())
    out = tmp_path / "out.onnx"
    assert main(["fix", str(model), "-o", str(out), "--json", "--no-config"]) == 0
    result = qdqgraph.fix(model, output=out, force=True, numerics=True)
    assert json.loads(capsys.readouterr().out) == json.loads(result.to_json())
    assert main(["fix", str(model), "--dry-run", "--json", "--no-config"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(qdqgraph.fix(model, numerics=True).to_json())


def test_the_texts_are_those_of_the_command_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", str(model), "--no-config"])
    shown = capsys.readouterr().out.splitlines()
    text = qdqgraph.check(model, rehearse=True).summary().splitlines()
    assert text[:-1] == shown[:-1] and text[-1].startswith(f"3 findings, 3 repairable: qdqgraph fix {model} -o ")
    out = tmp_path / "out.onnx"
    main(["fix", str(model), "-o", str(out), "--no-config"])
    result = qdqgraph.fix(model, output=out, force=True, numerics=True)
    assert result.summary() == capsys.readouterr().out.rstrip("\n")
    assert result.written == str(out) and result.file == str(model)


REPRS: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "Checked": (lambda model, data: qdqgraph.check(model), "3 findings, 3 repairable; 2 of 2 weighted layers in INT8"),
    "Finding": (lambda model, data: qdqgraph.check(model)[0], "<Finding QDQ104 at 'a': 'a' is quantized 4 times"),
    "Result": (lambda model, data: qdqgraph.fix(model), "3 findings repaired, 0 left, <Plan: 22 edits"),
    "Plan": (lambda model, data: qdqgraph.fix(model).plan, "<Plan: 22 edits, "),
    "Fp16Model": (lambda model, data: qdqgraph.to_fp16(model), "<Fp16Model: 0 nodes in FP32, 0 Casts"),
    "Engine": (
        lambda model, data: qdqgraph.forecast(model),
        "forecast for trt-10: 3 kernels, 0 reformats, 4,096 bytes>",
    ),
    "Estimate": (lambda model, data: qdqgraph.estimate([model])[0], "<Estimate of 'model.onnx' on a100: "),
    "Diff": (lambda model, data: qdqgraph.compare(model, model), "the second is not worse>"),
    "Accuracy": (qdqgraph.error, "<Accuracy: 2 layers on 4 samples, worst '"),
    "Sensitivity": (qdqgraph.sensitivity, "<Sensitivity 'model.onnx': "),
    "EngineNumbers": (qdqgraph.engine_error, "<EngineNumbers trt-10: 3 kernels on 4 samples>"),
}


@pytest.mark.parametrize("kind", REPRS)
def test_a_result_prints_as_one_short_line(kind: str, model: Path, data: Path) -> None:
    call, part = REPRS[kind]
    found = call(model, data)
    text = repr(found)
    assert type(found).__name__ == kind and part in text
    assert "\n" not in text and len(text) < 300 + 2 * len(str(model))


def test_names_cannot_break_a_table_or_a_line() -> None:
    name = "<script>alert(1)</script>&\x1b[31m"
    model = build(MODEL)
    for node in model.graph.node:
        node.input[:] = [name if tensor == "a" else tensor for tensor in node.input]
        node.output[:] = [name if tensor == "a" else tensor for tensor in node.output]
    found, result = qdqgraph.check(model), qdqgraph.fix(model)
    assert any(finding.place == name for finding in found)
    for html in (found._repr_html_(), result._repr_html_()):
        assert "script" not in cells(html).tags and "\x1b" not in html
    assert "\x1b" not in repr(found[0]) + repr(found) + repr(result) + found.summary() + result.summary()


def test_a_notebook_shows_small_tables(model: Path) -> None:
    table = cells(qdqgraph.check(model)._repr_html_())
    assert {"QDQ104", "tensor-quantized-twice", "1,024", "3 findings, 3 repairable"} <= set(table.texts)
    table = cells(qdqgraph.fix(model)._repr_html_())
    assert {"findings", "3", "0", "INT8 layers", "2 of 2"} <= set(table.texts)
    assert f"{model}: 3 findings repaired, 0 left" in table.texts


def test_a_search_shows_itself(model: Path, data: Path) -> None:
    pytest.importorskip("optuna")
    found = qdqgraph.tune(model, data, trials=1)
    assert repr(found).startswith("<Tuned 'model.onnx': ") and "\n" not in repr(found)
    assert json.loads(found.to_json())["file"] == "model.onnx" and "Front, fastest first" in found.summary()
    assert "table" in cells(found._repr_html_()).tags


def test_steps_and_decisions_are_logged_and_nothing_is_printed(
    model: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[str] = []
    with caplog.at_level(logging.DEBUG, logger="qdqgraph"):
        qdqgraph.fix(model, max_bits_lost=0.1, numerics=True, progress=steps.append)
    assert {record.name for record in caplog.records} == {"qdqgraph"}
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert told == steps and "exact repairs, round 1" in steps and "comparing outputs in ONNX Runtime" in steps
    decided = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert any(line.startswith("exact repairs, round 1: applied <Finding QDQ206 at ") for line in decided)
    assert any(line.startswith("left <Finding QDQ104 at 'a'") for line in decided)
    monkeypatch.setattr(logging.getLogger("qdqgraph"), "propagate", False)  # absl prints what reaches the root logger
    capfd.readouterr()
    qdqgraph.fix(model)
    assert capfd.readouterr() == ("", "")


WRITERS: dict[str, Callable[[Path, Path, Path, bool], Any]] = {
    "fix": lambda model, data, out, force: qdqgraph.fix(model, output=out, force=force),
    "fix, plan": lambda model, data, out, force: qdqgraph.fix(model, plan=out, force=force),
    "strip": lambda model, data, out, force: qdqgraph.strip(model, ["d"], output=out, force=force),
    "to_fp16": lambda model, data, out, force: qdqgraph.to_fp16(model, output=out, force=force),
    "apply": lambda model, data, out, force: qdqgraph.apply(qdqgraph.fix(model).plan, model, output=out, force=force),
    "undo": lambda model, data, out, force: qdqgraph.undo(
        qdqgraph.fix(model).plan.inverse(), model, output=out, force=force
    ),
    "forecast": lambda model, data, out, force: qdqgraph.forecast(model, output=out, force=force),
    "sensitivity": lambda model, data, out, force: qdqgraph.sensitivity(model, data, output=out, force=force),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_replaced_only_on_request(writer: str, model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "replaced.bin"
    out.write_text("mine")
    with pytest.raises(qdqgraph.ModelError, match=r"replaced\.bin"):
        WRITERS[writer](model, data, out, False)
    assert out.read_text() == "mine"
    WRITERS[writer](model, data, out, True)
    assert out.read_bytes() != b"mine"


def test_a_folder_with_files_is_used_for_a_build_only_on_request(model: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "layers.json").write_text("mine")
    with pytest.raises(qdqgraph.ModelError, match="kept contains files; use --force"):
        qdqgraph.build(model, keep=tmp_path / "kept")
    assert (tmp_path / "kept" / "layers.json").read_text() == "mine"


def test_a_csv_is_replaced_only_on_request(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "units.csv").write_text("mine")
    words = ["sensitivity", str(model), "--data", str(data), "-o", str(tmp_path / "units.csv"), "--no-config"]
    assert main(words) == 2 and (tmp_path / "units.csv").read_text() == "mine"
    assert main([*words, "--force"]) == 0 and (tmp_path / "units.csv").read_text() != "mine"

"""`check --save FORMAT=FILE`: one run prints the findings in one format and writes them in others."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from qdqgraph.cli.main import main
from tests.support.models import build

TWICE = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(build(TWICE), tmp_path / "m.onnx")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int | str | None, str, str]:
    try:
        code: int | str | None = main(["check", *words])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_file_has_what_the_format_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = said(capsys, "m.onnx")
    code, out, _ = said(capsys, "m.onnx", "--save", "sarif=m.sarif", "--save=markdown=m.md")
    assert (code, out) == (1, text)
    for name, file in (("sarif", "m.sarif"), ("markdown", "m.md")):
        assert (folder / file).read_text().rstrip() == said(capsys, "m.onnx", "--format", name)[1].rstrip()


def test_a_file_that_cannot_be_checked_is_in_the_saved_document(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "m.onnx", "absent.onnx", "-q", "--save", "json=all.json")[0] == 2
    assert '"error": "absent.onnx: cannot be read: No such file or directory"' in (folder / "all.json").read_text()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--save", "sarf=f"], "argument --save: there is no 'sarf'; did you mean 'sarif'?"),
        (["--save", "sarif"], "'sarif' names no file: write sarif=FILE"),
        (["--save", "json=m.onnx", "--force"], "m.onnx is an input"),
        (["--save", "json=f", "--save", "sarif=./f"], "f is given for two outputs"),
        (["--save", "json=f.html", "--report", "f.html"], "f.html is given for two outputs"),
        (["--save", "json=old"], "old exists; use --force"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_check(
    words: list[str], why: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "old").write_text("old")
    code, out, err = said(capsys, "m.onnx", *words)
    assert (code, out) == (2, "") and why in err
    assert sorted(path.name for path in folder.iterdir()) == ["m.onnx", "old"] and (folder / "old").read_text() == "old"

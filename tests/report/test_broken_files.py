"""A file that cannot be checked is in the document of the others, whatever the format."""

from pathlib import Path

import onnx
import pytest

from qdqgraph.cli.main import main
from qdqgraph.report import formats
from tests.support.models import build


@pytest.mark.parametrize("name", formats.names())
def test_a_file_that_cannot_be_checked_is_in_the_document_beside_the_others(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { y = t.conv4 (x, s1) v = t.conv4 (x, s2) }"
    onnx.save(build(text), "twice.onnx")
    Path("broken.onnx").write_bytes(b"no model")
    assert main(["check", "broken.onnx", "twice.onnx", "--no-config", "--format", name]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("qdqgraph: broken.onnx") and "QDQ104" in said.out
    reason = said.err.removeprefix("qdqgraph: ").strip().partition(":")[2].strip()
    assert "broken.onnx" in said.out and reason[:20] in said.out

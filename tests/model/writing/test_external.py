"""What becomes of external data if the output is in another folder: copies, or the files where they are."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph.errors import ModelError
from qdqgraph.model.external import locations
from tests.support.writes import files, with_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a/model.onnx with a/w.data, and an empty folder b."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with_data(tmp_path / "a/model.onnx", "w.data", 1.0)
    return tmp_path


def test_kept_data_are_read_where_they_are(folder: Path) -> None:
    result = qdqgraph.strip(folder / "a/model.onnx", ["y"], output=folder / "fixed.onnx", external="keep")
    assert locations(result.model) == ("a/w.data",)
    assert sorted(files(folder)) == ["a/model.onnx", "a/w.data", "fixed.onnx"]
    onnx.checker.check_model(str(folder / "fixed.onnx"))


def test_data_that_are_not_below_the_output_cannot_be_kept(folder: Path) -> None:
    before = files(folder)
    with pytest.raises(
        ModelError, match=r"w\.data is not in the folder of .*fixed\.onnx or below it.*copy them instead"
    ):
        qdqgraph.fix(folder / "a/model.onnx", output=folder / "b/fixed.onnx", external="keep")
    assert files(folder) == before


def test_copies_are_made_otherwise(folder: Path) -> None:
    result = qdqgraph.fix(folder / "a/model.onnx", output=folder / "b/fixed.onnx")
    (name,) = locations(result.model)
    assert (folder / "b" / name).read_bytes() == (folder / "a/w.data").read_bytes()


def test_an_unknown_choice_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="external is 'move'; use 'copy' or 'keep'"):
        qdqgraph.fix(folder / "a/model.onnx", output=folder / "b/f.onnx", external="move")  # type: ignore[arg-type]

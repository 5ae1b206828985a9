"""The notebook runs, and prints what it shows up to numbers."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

import nbformat

from docs.generate.notebook import NOTEBOOK, executed, printed
from tests.support.pages import pattern


@pytest.mark.filterwarnings("default")
def test_the_notebook_prints_what_it_shows() -> None:
    shown = [printed(cell) for cell in nbformat.read(NOTEBOOK, as_version=4).cells]
    found = [printed(cell) for cell in executed().cells]
    assert sum(map(bool, shown)) >= 5
    assert [
        text for text, new in zip(shown, found, strict=True) if not re.fullmatch(pattern(text), new, re.DOTALL)
    ] == []

"""The pages of the PyTorch side are run: their files, commands and Python blocks, in order; their outputs compared up to
numbers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import run_page
from tests.support.paths import ROOT

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("pytorch_quantization")

PAGES = {"torch.md": (10, "modelopt"), "from-nvidia-scripts.md": (10, "")}
"""Each page with the fewest steps that it has, and the package that a step may do without."""
NETWORKS = ("nets", "yolo")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a reader, whose modules are imported afresh."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in NETWORKS:
        sys.modules.pop(name, None)
    yield tmp_path
    for name in NETWORKS:
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, folder: Path) -> None:
    least, optional = PAGES[page]
    steps = list(run_page(ROOT / "docs" / page, optional))
    assert [(step.text, step.expected, step.output) for step in steps if not step.as_quoted()] == []
    assert len(steps) >= least and sum(step.expected is not None for step in steps) >= 6


def test_both_pages_show_every_step() -> None:
    """The names of the calls that a page is there for."""
    calls = {
        "torch.md": "tie save load sensitivity apply_sensitivity finetune feed compare_export",
        "from-nvidia-scripts.md": "quantize link tie calibrate export sensitivity finetune",
    }
    for page, names in calls.items():
        blocks = "".join(
            re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
        )
        text = blocks if page == "torch.md" else (ROOT / "docs" / page).read_text()
        assert [name for name in names.split() if not re.search(rf"\b{name}\b", text)] == []

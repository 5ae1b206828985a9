"""The documentation builds as a site, strictly and without the network; what is generated from the code is current."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.documents import pages
from tests.support.paths import ROOT

pytest.importorskip("material")
pytest.importorskip("grimp")

from docs.generate.hook import rewritten
from docs.generate.pages import PAGES


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    """mkdocs, which is strict here, ends with an error at a link or an anchor that does not exist."""
    made = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    for page in pages():
        if page.is_relative_to(ROOT / "docs"):
            name = page.relative_to(ROOT / "docs").with_suffix("").as_posix()
            assert name.replace("README", "index") in made
    assert {"changelog", "security", "samples", "rules/QDQ201"} <= made


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text(encoding="utf-8"))
        loaded = [
            tag for tag in tags if re.search(r"(?:src|href)=\"?(?:https?:)?//", tag) and 'rel="canonical"' not in tag
        ]
        assert loaded == [], page


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_current(name: str) -> None:
    """Mend a difference with: python -m docs.generate"""
    write: Callable[[], str] = PAGES[name]
    assert (ROOT / name).read_text(encoding="utf-8") == write()


def test_links_to_source_files_become_text() -> None:
    text = "[a](../qdqgraph/operators.py) [b](engines.md#reading) [c](../SECURITY.md) [d](https://onnx.ai)"
    assert rewritten(text, "writing-rules.md") == "a [b](engines.md#reading) [c](security.md) [d](https://onnx.ai)"
    assert rewritten("[a](../start.md)", "measurements/kit.md") == "[a](../start.md)"
    assert rewritten("[a](docs/start.md)", "changelog.md", of="CHANGELOG.md") == "[a](start.md)"


def test_names_of_files_and_pipes_in_tables() -> None:
    assert rewritten("```python a/b.py\nx\n```", "a.md") == '```python title="a/b.py"\nx\n```'
    assert rewritten("| `a\\|b` | c |", "a.md") == "| `a|b` | c |"

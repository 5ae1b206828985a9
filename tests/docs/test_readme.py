"""What a package index shows of the README: no link leads to a file that only the repository has."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.support.documents import pages
from tests.support.paths import ROOT

pytest.importorskip("hatchling")
pytest.importorskip("hatch_fancy_pypi_readme")


def test_the_description_of_the_package_has_no_dead_link() -> None:
    command = [sys.executable, "-m", "hatchling", "metadata"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    text = json.loads(done.stdout)["readme"]["text"]
    assert "(docs/start.md)" in text and "2,685,728" in text
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", text) == [] and "<!--" not in text


def test_a_reader_decides_in_one_screen() -> None:
    (readme,) = (page for page in pages() if page == ROOT / "README.md")
    text = readme.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    assert text.index("qdqgraph fix") < 2000, "both commands are near the top"

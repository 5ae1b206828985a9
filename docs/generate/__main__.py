"""Writes the generated pages: `python -m docs.generate`. A test compares them with the code."""

from __future__ import annotations

from .pages import PAGES
from .paths import ROOT

for name, page in PAGES.items():
    (ROOT / name).parent.mkdir(exist_ok=True)
    (ROOT / name).write_text(page(), encoding="utf-8")

"""Every link of every page leads to a file of the repository and to a heading in it."""

from __future__ import annotations

from pathlib import Path

from tests.support.documents import anchors, links, pages
from tests.support.paths import ROOT

ALL = sorted({*pages(), *(ROOT / "docs" / "rules").glob("*.md"), ROOT / "CHANGELOG.md"})


def dead(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def test_links_lead_to_files_and_headings() -> None:
    assert sum(len(list(links(page))) for page in ALL) > 300
    assert {str(page.relative_to(ROOT)): found for page in ALL if (found := dead(page))} == {}


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title: x\n\n[a](#a-title-x) [b](#none) [c](none.md) ![d](none.svg) `[e](code.md)`\n")
    assert dead(page) == ["#none", "none.md", "none.svg"]

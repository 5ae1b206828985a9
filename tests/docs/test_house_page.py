"""docs/house.md shows the folders that there are, on the levels that pyproject.toml gives them, and files that exist."""

from __future__ import annotations

import re

from qdqgraph.versions import tomllib
from tests.support.paths import PACKAGE, ROOT

PAGE = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
ROWS: list[tuple[str, str]] = re.findall(r"^\| (\d+) \| `([\w.]+)` \|", PAGE, re.MULTILINE)
"""Level and folder, as the page has them."""


def test_levels_are_those_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    levels = [set(level.split(" | ")) for level in reversed(contracts[0]["layers"]) if level != "__main__"]
    shown: list[set[str]] = [set() for _ in levels]
    for level, folder in ROWS:
        shown[int(level) - 1].add(folder.removesuffix(".py"))
    assert shown == levels


def test_every_folder_of_the_package_is_on_the_page() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert folders <= {folder for _, folder in ROWS}


def test_every_path_on_the_page_exists() -> None:
    paths = re.findall(r"`((?:qdqgraph|rules|samples|tests|docs|benchmarks)/[^`\s]*)`", PAGE)
    assert len(paths) > 10
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []

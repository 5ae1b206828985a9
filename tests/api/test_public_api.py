"""The public API is what `public_api.txt` says: a change of it is a decision, and belongs into the changelog."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.public_api import MODULES, text

KEPT = Path(__file__).with_name("public_api.txt")
CHANGED = """the public API changed. If that is meant (docs/versioning.md says what may change), tell it in CHANGELOG.md and run:
python -m tests.support.public_api > tests/api/public_api.txt"""


def _kept() -> dict[str, str]:
    blocks = KEPT.read_text(encoding="utf-8").split("\n\n")
    return {block.partition("\n")[0]: block.rstrip() for block in blocks}


def test_the_snapshot_has_every_public_module() -> None:
    assert tuple(_kept()) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_public_module_offers_what_the_snapshot_says(module: str) -> None:
    if module == "qdqgraph.torch":
        pytest.importorskip("torch")
    assert text((module,)).rstrip() == _kept()[module], CHANGED

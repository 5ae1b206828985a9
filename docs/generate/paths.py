"""Where the programs find files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qdqgraph.versions import tomllib

ROOT = Path(__file__).parents[2]
"""The repository."""


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

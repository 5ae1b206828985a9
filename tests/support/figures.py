"""Figures that a test records with `record_property`, for the summary of the run."""

from __future__ import annotations

from collections.abc import Iterable

AGREEMENT = "agreement with TensorRT-RTX"
TITLES = (AGREEMENT,)
"""The names of properties that are figures; each is the title of its section."""


def figures(properties: Iterable[tuple[str, object]]) -> dict[str, list[str]]:
    """Returns the lines of each section that has any, in alphabetical order."""
    found: dict[str, set[str]] = {}
    for name, value in properties:
        if name in TITLES:
            found.setdefault(name, set()).add(str(value))
    return {title: sorted(lines) for title, lines in found.items()}

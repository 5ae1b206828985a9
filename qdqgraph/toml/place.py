"""`Place`: the keys and array indexes that lead to an entry of a TOML file."""

from __future__ import annotations

from collections.abc import Sequence

Place = Sequence[str | int]
"""("example", 1, "before") is the key `before` of the second [[example]]."""


def spelled(place: Place) -> str:
    """A place as messages write it: "example #2 before"."""
    return " ".join(f"#{step + 1}" if isinstance(step, int) else step for step in place)

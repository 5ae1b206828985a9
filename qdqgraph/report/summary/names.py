"""Short names: the significant end of long tensor names, where it still tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

CUT = "…"
"""Replaces the beginning that is left out."""
BOUNDARIES = "/.:_"
"""Characters that separate the parts of a name, those of the larger parts first."""
NEAR = 6
"""A form begins with a whole part of the name if that costs at most one of so many characters."""


def shortened(names: Iterable[str], width: int) -> Mapping[str, str]:
    """Returns a short form of each name; different names have different ones.

    A name that is longer than `width` loses its beginning, up to the end of a part of the name if one is near. A form
    is longer than `width` if only that tells it apart from another.

    Args:
        names: the names.
        width: how many characters a form should have at most, at least 2.
    """
    known = list(dict.fromkeys(names))
    forms = {name: _cut(name, width) for name in known}
    while (twins := _twins(forms)) and width < max(map(len, known)):
        width += 4
        forms |= {name: _cut(name, width) for name in twins}
    return forms


def _cut(name: str, width: int) -> str:
    """The last characters of a name that fit in `width`."""
    if len(name) <= width:
        return name
    tail = name[len(name) - (width - len(CUT)) :]
    starts = (at for mark in BOUNDARIES if 0 < (at := tail.find(mark)) <= len(tail) // NEAR)
    return CUT + tail[next(starts, 0) :]


def _twins(forms: Mapping[str, str]) -> list[str]:
    counts = Counter(forms.values())
    return [name for name, form in forms.items() if counts[form] > 1]

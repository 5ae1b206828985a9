"""Short names: the significant end of long tensor names, where it still tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

CUT = "…"
"""Replaces the beginning that is left out."""
BOUNDARIES = "/.:"
"""Characters that separate the parts of a name."""


def shortened(names: Iterable[str], width: int) -> Mapping[str, str]:
    """Returns a short form of each name; different names have different ones.

    The parts that all names begin with are left out, and the beginning of what is still longer than `width`. A form is
    longer than `width` if only that tells it apart from another.

    Args:
        names: the names.
        width: how many characters a form should have at most, at least 2.
    """
    known = list(dict.fromkeys(names))
    shared = _shared(known)
    forms = {name: _cut(name, max(len(name) - shared, 0), width) for name in known}
    while len(twins := _twins(forms)) and width < max(map(len, known)):
        width += 4
        forms |= {name: _cut(name, len(name) - shared, width) for name in twins}
    return forms


def _shared(names: list[str]) -> int:
    """How many characters of the common beginning can go: whole parts of it, if leaving them out saves anything."""
    if len(names) < 2:
        return 0
    first, last = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    end = max(first.rfind(mark, 0, same) for mark in BOUNDARIES) + 1
    return end if end > len(CUT) + 1 else 0


def _cut(name: str, kept: int, width: int) -> str:
    """The last characters of a name: `kept` of them, if so many fit in `width`."""
    if kept >= len(name) <= width:
        return name
    if kept + len(CUT) <= width:
        return CUT + name[len(name) - kept :]
    tail = name[len(name) - (width - len(CUT)) :]
    starts = [tail.find(mark) for mark in BOUNDARIES if 0 < tail.find(mark) <= len(tail) // 3]
    return CUT + tail[min(starts, default=0) :]


def _twins(forms: Mapping[str, str]) -> list[str]:
    counts = Counter(forms.values())
    return [name for name, form in forms.items() if counts[form] > 1]

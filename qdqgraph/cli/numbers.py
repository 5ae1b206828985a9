"""Numbers in arguments, with the sentence for those that are out of range."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable

DIGITS = 18
"""Of the largest integer: it fits into 64 bits."""


def count(text: str) -> int:
    """An integer of 1 or more."""
    if not _is_integer(text) or int(text) < 1:
        raise ArgumentTypeError(f"{text[:40]!r} is not an integer of 1 or more")
    return int(text)


def whole(text: str) -> int:
    """An integer of 0 or more."""
    if not _is_integer(text):
        raise ArgumentTypeError(f"{text[:40]!r} is not an integer of 0 or more")
    return int(text)


def _is_integer(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= DIGITS


def real(text: str, what: str, fits: Callable[[float], bool]) -> float:
    """A finite number that fits."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not fits(number):
        raise ArgumentTypeError(f"{text[:40]!r} is not a {what}")
    return number


def finite(text: str) -> float:
    """A finite number."""
    return real(text, "finite number", lambda x: True)


def percent(text: str) -> float:
    """A number above 0, at most 100."""
    return real(text, "number above 0, at most 100", lambda x: 0 < x <= 100)


def positive(text: str) -> float:
    """A number above 0."""
    return real(text, "number above 0", lambda x: x > 0)


def not_negative(text: str) -> float:
    """A number of 0 or more."""
    return real(text, "number of 0 or more", lambda x: x >= 0)


def fraction(text: str) -> float:
    """A number above 0 and below 1."""
    return real(text, "number above 0 and below 1", lambda x: 0 < x < 1)

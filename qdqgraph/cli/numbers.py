"""Numbers in arguments, with the sentence for those that are out of range."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable


def count(text: str) -> int:
    """An integer of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not an integer of 1 or more")
    return int(text)


def real(text: str, what: str, fits: Callable[[float], bool]) -> float:
    """A finite number that fits."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not fits(number):
        raise ArgumentTypeError(f"{text!r} is not a {what}")
    return number


def positive(text: str) -> float:
    """A number above 0."""
    return real(text, "number above 0", lambda x: x > 0)


def not_negative(text: str) -> float:
    """A number of 0 or more."""
    return real(text, "number of 0 or more", lambda x: x >= 0)


def fraction(text: str) -> float:
    """A number above 0 and below 1."""
    return real(text, "number above 0 and below 1", lambda x: 0 < x < 1)

"""What is asked of the type of many arrays: numpy makes the answers anew each time, which takes a microsecond."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

NO_SCALES = ("int", "uint", "bool", "complex", "str", "object")
"""How the names of types begin that are no floating-point numbers, the 2- and 4-bit ones of ml_dtypes included."""


@cache
def type_of(dtype: np.dtype[Any]) -> str:
    """The text of a type: "float32"."""
    return str(dtype)


@cache
def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether the elements of a type are floating-point numbers, those of ml_dtypes included."""
    return not dtype.name.startswith(NO_SCALES)

"""`agreement`: compares two lists of arrays, such as outputs of two models, by bit-exact equality and SQNR in dB."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .sqnr import sqnr

EMPTY, ALL_NAN, FIXED = "empty", "NaN throughout", "independent of the inputs"
"""Caveats of outputs that show nothing."""


@dataclass(frozen=True)
class Agreement:
    """The agreement of two models on one output over all samples.

    Attributes:
        sqnr: signal to quantization-noise ratio in dB, 10·log10(Σ ref² / Σ (ref − new)²); inf if all values are
            equal, nan if a value is not finite, -inf if the shapes or types differ or the reference is all zero.
        identical: whether all samples are equal bit for bit, NaN included.
        caveat: why the output shows nothing or little, such as "empty"; "" otherwise.
    """

    sqnr: float
    identical: bool
    caveat: str = ""

    @property
    def blank(self) -> bool:
        """Whether the output shows nothing."""
        return self.caveat in (EMPTY, ALL_NAN, FIXED)


def agreement(reference: Iterable[Any], found: Iterable[Any]) -> Agreement:
    """Returns the agreement of the samples of one output. FP16 is compared with FP32 by value.

    Outputs that are not numeric are compared for equality only.
    """
    comparison = Comparison()
    for a, b in zip(reference, found, strict=True):
        comparison.add(a, b)
    return comparison.agreement()


class Comparison:
    """One output of two models, compared sample by sample as in `agreement`."""

    def __init__(self) -> None:
        self._identical, self._signal, self._error = True, 0.0, 0.0
        self._unlike: str | None = None
        """What differs beside the values; "" for the type."""
        self._values = 0
        self._first: Any = None
        self._constant = self._nan = True
        """Whether all values of the reference are equal, and whether all are NaN."""

    def add(self, reference: Any, found: Any) -> None:
        """Compares the output of the next sample."""
        x, y = np.asarray(reference), np.asarray(found)
        self._look(x.reshape(-1))
        if self._unlike is not None:
            return
        if x.shape != y.shape:
            self._unlike = f"its shape is {[*y.shape]} instead of {[*x.shape]}"
            return
        if x.dtype != y.dtype and (x.dtype.kind, y.dtype.kind) != ("f", "f"):
            self._unlike = ""
            return
        self._identical = self._identical and x.dtype == y.dtype and x.tobytes() == y.tobytes()
        if x.dtype.kind in "fiub":
            wide = x.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # an output may be infinite or NaN
                self._signal += float(np.sum(wide**2))
                self._error += float(np.sum((wide - y.astype(np.float64)) ** 2))

    def agreement(self) -> Agreement:
        """The agreement of the samples so far."""
        if self._unlike is not None:
            return Agreement(-math.inf, False, self._unlike or self._caveat())
        ratio = math.inf if self._identical else sqnr(self._signal, self._error)
        return Agreement(ratio, self._identical, self._caveat())

    def _look(self, values: np.ndarray) -> None:
        """Notes whether the values of the reference differ among themselves."""
        if not values.size:
            return
        if not self._values:
            self._first = values[0]
        self._values += values.size
        real = values.dtype.kind in "fiub"
        self._constant = self._constant and real and bool(np.all(values == self._first))
        self._nan = self._nan and values.dtype.kind == "f" and bool(np.isnan(values).all())

    def _caveat(self) -> str:
        """Returns why the values of the reference show nothing or little; "" if they differ among themselves."""
        if not self._values:
            return EMPTY
        if self._nan:
            return ALL_NAN
        if self._values > 1 and self._constant:
            return f"all values are {self._first:.6g}, compares little"
        return ""

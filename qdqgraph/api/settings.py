"""The fields of `Options` as arguments by name, typed: an editor completes them, a type checker rejects others.

`repair.options.Options` defines them, with what each means; a test compares these classes with it. A list may be given
for what `Options` keeps as a tuple.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from ..repair.options import WeightFormat


class CheckOptions(TypedDict, total=False):
    """The options of the functions that only read a model."""

    policy: str
    max_bits_lost: float | None
    target: str
    shapes: Sequence[str]


class QuantizeOptions(CheckOptions, total=False):
    """The options of `quantize`."""

    equalize: bool
    bias_correction: bool
    round_weights: bool
    weights: WeightFormat | None
    also: Sequence[str]
    only: Sequence[str]
    skip: Sequence[str]


class FixOptions(QuantizeOptions, total=False):
    """The options of `fix`: all."""

    exact: bool
    keep_scales: bool

"""Conversions between amax and scale of an integer range around zero.

`scale` is ONNX's everywhere in this package: the float value of one integer step, amax / 127 for INT8 around zero.
pytorch-quantization uses the reciprocal, 127 / amax, and calls it scale too: see `inverse_scale_from_amax`.

Each function is one floating-point operation in the type of its argument. To round the quotient once from float64, pass
float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

import numpy as np

INT8_BOUND = 127
"""Largest magnitude of symmetric INT8; TensorRT and pytorch-quantization do not use -128 for scales."""
Real = TypeVar("Real", float, np.ndarray)


def integer_bound(num_bits: int, unsigned: bool = False) -> int:
    """The largest integer of a range around zero: 127 for 8 bits, 255 for unsigned 8 bits."""
    return (1 << (num_bits - 1 + int(unsigned))) - 1


def scale_from_amax(amax: Real, bound: int = INT8_BOUND) -> Real:
    """ONNX's scale of the range [-amax, amax].

    Args:
        amax: the largest magnitude, in the units of the tensor: a number, or an array of any shape and floating-point
            type.
        bound: the integer that amax becomes.

    Returns:
        amax / bound, of the same shape and type.
    """
    return amax / _typed(bound, amax)


@overload
def amax_from_scale(scale: float, bound: int = INT8_BOUND) -> float: ...
@overload
def amax_from_scale(scale: np.ndarray, bound: int | np.ndarray = INT8_BOUND) -> np.ndarray: ...
def amax_from_scale(scale: Any, bound: Any = INT8_BOUND) -> Any:
    """The largest magnitude that a scale reaches.

    Args:
        scale: ONNX's: a number, or an array of any shape and floating-point type.
        bound: the number of steps from zero to the end of the range; an array has one for each scale.

    Returns:
        scale * bound, of the same type.
    """
    return scale * _typed(bound, scale)


def inverse_scale_from_amax(amax: Real, bound: int = INT8_BOUND) -> Real:
    """What pytorch-quantization calls scale: the integer steps in one unit of the tensor.

    Source: pytorch-quantization 2.1.3, `pytorch_quantization.tensor_quant._tensor_quant`: `scale = max_bound / amax`.

    Args:
        amax: as in `scale_from_amax`; not zero.

    Returns:
        bound / amax, of the same shape and type.
    """
    return _typed(bound, amax) / amax


def _typed(bound: Any, real: Any) -> Any:
    """A bound in the type of what it is applied to: NumPy 1.26 computes with an array of no dimension and a Python
    integer in float64."""
    return real.dtype.type(bound) if isinstance(real, np.ndarray | np.generic) and isinstance(bound, int) else bound


def scale_in(scale: float, types: Iterable[str]) -> float:
    """A scale that is exact in every one of some types, for the nodes of a pair that have different ones.

    Args:
        scale: a positive number.
        types: names of floating-point types, as numpy has them.

    Returns:
        The scale, rounded to each type in turn, and within the range of each (`scale_within`).
    """
    for name in sorted(types):
        scale = float(np.dtype(name).type(scale_within(scale, name)))
    return scale


def scale_within(scale: float, name: str) -> float:
    """A scale that a type does not round to zero or to infinity, with which a pair would be refused.

    Args:
        scale: a positive number.
        name: the name of a floating-point type, as numpy has it.

    Returns:
        The scale; or the least positive, or the largest finite, number of the type.
    """
    kind: Any = np.dtype(name).type
    with np.errstate(over="ignore"):
        rounded = kind(scale)
    if rounded == 0:
        return float(np.nextafter(kind(0), kind(1)))
    return scale if np.isfinite(rounded) else float(np.nextafter(kind(np.inf), kind(0)))

"""Decides which constants and scales FP16 can represent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph.amax import amax_from_scale

LARGEST = 65504.0
"""The largest finite FP16 value."""
SMALLEST = 2.0**-14
"""The smallest normal FP16 value, 6.1e-5. Below it each halving loses one bit; the smallest subnormal is 6e-8."""
SCALE_TOLERATED = 2.0**-10
"""The largest relative error of a scale in FP16: twice the rounding error of a normal value, a quarter of the INT8
rounding error. Every scale above 3.1e-5 meets it; TensorRT-RTX accepts scales below 6.1e-5 (measured, 1.7.1)."""
TOLERATED = 2.0**-6
"""The largest relative error of a constant in FP16. Only values around 1e-6 and below exceed it. A product with such a
value loses as much when it is stored in FP16, unless the other factor is above 30."""
COUNTED = 2048
"""FP16 represents every integer up to this one exactly."""
INTEGER_BOUND = 128
"""The largest magnitude of an INT8 value."""


def fault(array: np.ndarray, *, additive: bool = False) -> str:
    """Returns why a constant cannot be FP16, or "" if it can. Infinity and NaN are exact in FP16.

    Args:
        array: the constant, float32, any shape.
        additive: the constant is only added (a bias), so its small values may become 0.
    """
    finite = array[np.isfinite(array)].astype(np.float64)
    if not finite.size:
        return ""
    top = finite[np.abs(finite).argmax()]
    if abs(top) > LARGEST:
        return f"reaches {top:.4g}, beyond FP16's 65504"
    lost = np.linalg.norm(finite.astype(np.float16).astype(np.float64) - finite)
    if not additive and lost > TOLERATED * np.linalg.norm(finite):
        return f"({top:.4g}) is too small for FP16"
    return ""


def rounded_to_fp16(array: np.ndarray) -> np.ndarray:
    """Returns the array as float16, with finite values clamped to FP16's range (bounds of Clip, Min and Max)."""
    finite = np.isfinite(array)
    return np.where(finite, np.clip(array, -LARGEST, LARGEST), array).astype(np.float16)


@dataclass(frozen=True, eq=False)
class Scale:
    """The scale of one QuantizeLinear or DequantizeLinear.

    Attributes:
        exact: its value as in the file, float32 or float16; None if it is not constant.
        half: its value in float16, same shape; None if FP16 cannot represent it.
    """

    exact: np.ndarray | None
    half: np.ndarray | None

    @property
    def change(self) -> float:
        """The largest relative change of the scale by FP16; 0 if it stays FP32."""
        if self.exact is None or self.half is None:
            return 0.0
        change = _change(self.exact, self.half)
        return float(np.max(change[change <= SCALE_TOLERATED], initial=0.0))

    @property
    def fault(self) -> str:
        """Why the scale stays FP32; "" if it becomes FP16."""
        if self.half is not None:
            return ""
        if self.exact is None:
            return "is computed at run time"
        sizes = np.abs(self.exact[np.isfinite(self.exact)])
        with np.errstate(over="ignore"):
            halves = sizes.astype(np.float16)
        small = sizes[(sizes < SMALLEST) & (_change(sizes, halves) > SCALE_TOLERATED)]
        if small.size:
            which = f" in {small.size} of {sizes.size} channels" if sizes.size > 1 else ""
            return f"is as small as {small.min():.3g}{which}; FP16 loses precision there"
        return f"reaches {sizes.max(initial=0):.4g}: its dequantized values exceed FP16's 65504"


def scale(value: np.ndarray | None, idle: np.ndarray | None = None) -> Scale:
    """Returns a scale with its FP16 value.

    Equal scales get equal FP16 values. A scale becomes FP16 if rounding changes it by at most `SCALE_TOLERATED` and the
    dequantized values stay within FP16's range.

    Args:
        value: the scale as in the file, float32 or float16; None if it is not constant.
        idle: mask of the elements that scale only zeros (all-zero weight channels); these may take any value.
    """
    if value is None:
        return Scale(None, None)
    if value.dtype == np.float16:
        return Scale(value, value)
    half = value.astype(np.float32)
    if idle is not None:
        half = np.where(idle & ~(half >= SMALLEST), np.float32(SMALLEST), half)
    rounded = np.where(half > LARGEST, np.inf, half).astype(np.float16)
    inside = amax_from_scale(rounded.astype(np.float32), INTEGER_BOUND) <= LARGEST
    holds = np.all((half > 0) & inside & (_change(half, rounded) <= SCALE_TOLERATED))
    return Scale(value, rounded if holds else None)


def _change(exact: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Returns the relative change of each value by FP16; infinity if the value is zero or not finite."""
    wide = exact.astype(np.float64)
    usable = np.isfinite(wide) & (wide != 0)
    return np.where(usable, np.abs(half.astype(np.float64) / np.where(usable, wide, 1) - 1), np.inf)

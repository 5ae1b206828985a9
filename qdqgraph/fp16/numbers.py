"""What FP16 can hold: constants and scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph.amax import amax_from_scale

LARGEST = 65504.0
"""The largest FP16 number."""
SMALLEST = 2.0**-14
"""The smallest normal FP16 number, 6.1e-5; below it digits go, one a halving, and 6e-8 is the end."""
SCALE_TOLERATED = 2.0**-10
"""Relative error up to which a scale becomes FP16: twice that of rounding a normal number, a quarter of what INT8
rounding itself does. Every scale above 3.1e-5 is within; TensorRT-RTX takes those below 6.1e-5 (measured, 1.7.1)."""
TOLERATED = 2.0**-6
"""Relative error of a constant up to which it becomes FP16. Only numbers around 1e-6 and below have more; a product
with them loses as much when it is stored, unless the other factor is above 30."""
COUNTED = 2048
"""Up to here FP16 holds every whole number."""
INTEGER_BOUND = 128
"""The largest magnitude of INT8."""


def fault(array: np.ndarray, *, additive: bool = False) -> str:
    """Why a constant cannot be FP16; empty where it can. Infinities and NaN stay what they are.

    Args:
        array: float32.
        additive: it is only added to larger numbers (a bias), so that small ones may vanish.
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
    """The array as float16; finite numbers beyond its range become its largest, as bounds of Clip, Min and Max may."""
    finite = np.isfinite(array)
    return np.where(finite, np.clip(array, -LARGEST, LARGEST), array).astype(np.float16)


@dataclass(frozen=True, eq=False)
class Scale:
    """The scale of one QuantizeLinear or DequantizeLinear.

    Attributes:
        exact: its float32 value, shape [] or as written; None where it is not constant.
        half: its value in FP16; None where FP16 does not hold it.
    """

    exact: np.ndarray | None
    half: np.ndarray | None

    @property
    def change(self) -> float:
        """By how much FP16 changes it at most, relative to it; 0 where it stays FP32."""
        if self.exact is None or self.half is None:
            return 0.0
        change = _change(self.exact, self.half)
        return float(np.max(change[change <= SCALE_TOLERATED], initial=0.0))

    @property
    def fault(self) -> str:
        """Why it stays FP32; empty where it does not."""
        if self.half is not None:
            return ""
        if self.exact is None:
            return "is computed while the network runs"
        sizes = np.abs(self.exact[np.isfinite(self.exact)])
        small = sizes[(sizes < SMALLEST) & (_change(sizes, sizes.astype(np.float16)) > SCALE_TOLERATED)]
        if small.size:
            which = f" in {small.size} of {sizes.size} channels" if sizes.size > 1 else ""
            return f"is as small as {small.min():.3g}{which}; FP16 loses digits there"
        return f"reaches {sizes.max(initial=0):.4g}: its integers stand for numbers beyond FP16's 65504"


def scale(value: np.ndarray | None, idle: np.ndarray | None = None) -> Scale:
    """A scale and its FP16 form.

    Equal scales have equal forms. FP16 holds a scale that it changes little, if its integers, times it, stay in range.

    Args:
        value: as written, float32 or float16; None where it is not constant.
        idle: which elements scale nothing but zeros (weight channels without a weight): theirs may be any number.
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
    """By how much FP16 changes numbers, relative to them; infinite where they are zero or not finite."""
    wide = exact.astype(np.float64)
    usable = np.isfinite(wide) & (wide != 0)
    return np.where(usable, np.abs(half.astype(np.float64) / np.where(usable, wide, 1) - 1), np.inf)

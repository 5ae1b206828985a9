"""`Quantization`: the values that a scale and a zero-point can represent, and ONNX's arithmetic to and from them.

Where a grid is moved (UINT8 to INT8, a zero-point to zero) the numbers come from here; nothing else computes integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .amax import INT8_BOUND, amax_from_scale
from .pair import Pair


@dataclass(frozen=True, eq=False)
class Quantization:
    """A scale and a zero-point: what one Q/DQ pair can represent.

    Attributes:
        scale: of a floating-point type; shape [] or [1] for a whole tensor, [C] along `axis`.
        zero_point: of the integers' type; shape [], [1] or [C].
        axis: the axis of the channels; of no meaning for a single scale.

    Sources: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html, https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 1

    @classmethod
    def of(cls, pair: Pair) -> Quantization | None:
        """A pair's grid; None where scale or zero-point are not constant, the pair is blocked, or its type is
        not made of whole bytes of integers (FP8, INT4)."""
        if pair.scale is None or pair.scale.ndim > 1 or any(n.attrs.get("block_size") for n in pair.nodes):
            return None
        zero_point = np.zeros((), np.uint8) if pair.zero_point is None else pair.zero_point
        if len(pair.nodes[0].inputs) > 2 and pair.nodes[0].inputs[2].name and pair.zero_point is None:
            return None
        if zero_point.dtype.kind not in "iu":
            return None
        return cls(pair.scale, zero_point, 1 if pair.axis is None else pair.axis)

    def reals(self, integers: np.ndarray) -> np.ndarray:
        """(integer - zero_point) · scale, rounded once to the scale's type, as DequantizeLinear computes it."""
        scale, zero_point = (self.along(a, integers.ndim) for a in (self.scale, self.zero_point))
        steps = integers.astype(np.int64) - zero_point.astype(np.int64)
        return np.asarray(steps.astype(np.float32) * scale.astype(np.float32)).astype(scale.dtype)

    def integers(self, reals: np.ndarray) -> np.ndarray:
        """The nearest integers, ties to even, saturated to the zero-point's type, as QuantizeLinear computes them."""
        scale, zero_point = (self.along(a, reals.ndim) for a in (self.scale, self.zero_point))
        bounds = np.iinfo(self.zero_point.dtype)
        moved = np.rint(reals.astype(np.float32) / scale.astype(np.float32)).astype(np.float64) + zero_point
        return np.clip(moved, bounds.min, bounds.max).astype(self.zero_point.dtype)

    def fits(self, array: np.ndarray) -> bool:
        """Whether the grid has one scale, or one for every channel of the array."""
        inside = -array.ndim <= self.axis < array.ndim
        return self.scale.size == 1 or (inside and array.shape[self.axis] == self.scale.size)

    def amax(self) -> np.ndarray:
        """The largest magnitude of each channel's range, as float64; of the whole tensor's, for one scale."""
        bounds = np.iinfo(self.zero_point.dtype)
        zero_point = self.zero_point.astype(np.float64)
        # INT8's -128 is left unused around zero, as TensorRT and pytorch-quantization do.
        low = np.where(zero_point == 0, -INT8_BOUND, bounds.min) if bounds.min < 0 else np.full((), bounds.min)
        return amax_from_scale(self.scale.astype(np.float64), np.maximum(zero_point - low, bounds.max - zero_point))

    def along(self, array: np.ndarray, rank: int) -> np.ndarray:
        """A scale or zero-point in the shape that broadcasts over a tensor of that rank."""
        if array.size == 1:
            return array.reshape(())
        shape = [1] * rank
        shape[self.axis] = array.size
        return array.reshape(shape)

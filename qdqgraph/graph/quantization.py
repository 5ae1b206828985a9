"""`Quantization`: the values that a scale and a zero-point can represent, with ONNX's arithmetic.

Conversions to another scale or zero-point (`proposals.weights`) use this arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from .amax import INT8_BOUND, amax_from_scale

if TYPE_CHECKING:
    from .pair import Pair

LATE: Mapping[int, int] = {
    **dict.fromkeys((TensorProto.INT16, TensorProto.UINT16, TensorProto.INT4, TensorProto.UINT4), 21),
    **{n: 19 for name, n in TensorProto.DataType.items() if name.startswith(("FLOAT8E4M3", "FLOAT8E5M2"))},
    **{n: 23 for name, n in TensorProto.DataType.items() if name == "FLOAT4E2M1"},
    **{n: 25 for name, n in TensorProto.DataType.items() if name in ("INT2", "UINT2")},
}
"""The first opset whose Q/DQ support a type that those of opset 10 lack: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html"""


@dataclass(frozen=True, eq=False)
class Quantization:
    """A scale and a zero-point: the quantization parameters of one Q/DQ pair.

    Attributes:
        scale: of a floating-point type; shape [] or [1] for a whole tensor, [C] along `axis`.
        zero_point: in the type of the integers; shape [], [1] or [C].
        axis: the axis of the channels; ignored for a single scale.

    Sources: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html, https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int = 1

    @classmethod
    def of(cls, pair: Pair) -> Quantization | None:
        """The quantization of a pair; None if scale or zero-point are not constant or of different sizes, the pair is
        blocked, or its type is not a whole-byte integer (FP8, INT4)."""
        if pair.scale is None or pair.scale.ndim > 1 or pair.blocked:
            return None
        zero_point = np.zeros((), np.uint8) if pair.zero_point is None else pair.zero_point
        if len(pair.nodes[0].inputs) > 2 and pair.nodes[0].inputs[2].name and pair.zero_point is None:
            return None
        unfit = pair.scale.size > 1 and zero_point.size not in (1, pair.scale.size)
        if zero_point.dtype.kind not in "iu" or unfit:
            return None
        return cls(pair.scale, zero_point, pair.channels)

    def dequantize(self, integers: np.ndarray) -> np.ndarray:
        """(integer - zero_point) · scale, rounded once to the scale's type, as DequantizeLinear computes it: infinite
        where the type has no such value."""
        scale, zero_point = (self.along(a, integers.ndim) for a in (self.scale, self.zero_point))
        narrow = max(integers.dtype.itemsize, zero_point.dtype.itemsize) <= 2  # differences are exact in FP32
        kind = np.float32 if narrow else np.int64
        steps = integers.astype(kind) - zero_point.astype(kind)
        with np.errstate(over="ignore", invalid="ignore"):
            reals = np.asarray(steps.astype(np.float32, copy=False) * scale.astype(np.float32))
            return reals.astype(scale.dtype, copy=False)

    def quantize(self, reals: np.ndarray) -> np.ndarray:
        """The nearest integers, ties to even, saturated to the zero-point's type, as QuantizeLinear computes them.

        ONNX does not say what NaN becomes, also that of zero with a scale of zero: the smallest integer, as in ONNX
        Runtime on x86.
        """
        scale, zero_point = (self.along(a, reals.ndim) for a in (self.scale, self.zero_point))
        bounds = np.iinfo(self.zero_point.dtype)
        with np.errstate(all="ignore"):  # a scale may be zero, subnormal or not finite
            moved = np.asarray(reals.astype(np.float32, copy=False) / scale.astype(np.float32))
            np.rint(moved, out=moved)
            if self.zero_point.dtype.itemsize > 2:  # of narrow integers, all up to the bounds are exact in FP32
                moved = moved.astype(np.float64)
            moved += zero_point
            np.fmax(moved, bounds.min, out=moved)  # which takes the number where the other is NaN
            return np.minimum(moved, bounds.max, out=moved).astype(self.zero_point.dtype)

    def fits(self, array: np.ndarray) -> bool:
        """Whether it has one scale and zero-point, or one for every channel of the array."""
        return self.fits_shape(array.shape)

    def fits_shape(self, shape: Sequence[int | None] | None) -> bool:
        """The same for a tensor of this shape: None for an unknown dimension, which any number of scales fits; or for
        an unknown rank, which a single scale fits."""
        sizes = {self.scale.size, self.zero_point.size}
        if shape is None or not -len(shape) <= self.axis < len(shape):
            return sizes == {1}
        return shape[self.axis] is None or sizes <= {1, shape[self.axis]}

    def amax(self) -> np.ndarray:
        """The largest magnitude of each channel's range, float64; of the whole tensor's range for one scale."""
        bounds = np.iinfo(self.zero_point.dtype)
        zero_point = self.zero_point.astype(np.float64)
        # Symmetric INT8 does not use -128, as in TensorRT and pytorch-quantization.
        low = np.where(zero_point == 0, -INT8_BOUND, bounds.min) if bounds.min < 0 else np.full((), bounds.min)
        return amax_from_scale(self.scale.astype(np.float64), np.maximum(zero_point - low, bounds.max - zero_point))

    def along(self, array: np.ndarray, rank: int) -> np.ndarray:
        """A scale or zero-point, reshaped to broadcast over a tensor of that rank."""
        if array.size == 1:
            return array.reshape(())
        shape = [1] * rank
        shape[self.axis] = array.size
        return array.reshape(shape)

"""`StoredType`: how a tensor is stored between kernels: as quantized values with a scale, or as floating point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import onnx

from ...graph.pair import Pair
from ..layers import EIGHT_BITS, UNKNOWN, Tensor
from .propagation import ScaleKey

FLOATS = {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "DOUBLE": "FP32"}
"""Floating-point types of ONNX, as engines call them."""
QUANTIZED = {"FLOAT8": "FP8", "FLOAT4": "FP4", "INT4": "INT4", "UINT4": "INT4"}
"""How the types of a pair's values begin in ONNX, as engines call them; all other pairs are INT8."""


@dataclass(frozen=True)
class StoredType:
    """How a tensor is stored: quantized with a scale, or as floating point if `scale` is None.

    Attributes:
        scale: the scale of the stored values, with their type.
        pair: a pair with that scale.
    """

    scale: ScaleKey | None = None
    pair: Pair | None = None

    @classmethod
    def of(cls, pair: Pair) -> StoredType:
        """The type of a pair's values."""
        return cls(pair.scale_key, pair)

    @property
    def precision(self) -> str:
        """What engines call the type of the stored values; "" for floating point, whose type the tensor has."""
        return "" if self.scale is None else precision_of(self.pair)


FLOATING = StoredType()


def precision_of(pair: Pair | None) -> str:
    """What engines call the type of a pair's values: INT8 unless it is known to be another."""
    return "INT8" if pair is None else _precision(pair.types[1].upper())


@cache
def _precision(kind: str) -> str:
    return next((name for begin, name in QUANTIZED.items() if kind.startswith(begin)), "INT8")


@cache
def type_name(kind: int) -> str:
    """ONNX's name of an `onnx.TensorProto` data type."""
    return onnx.TensorProto.DataType.Name(kind)


def data_type(tensors: tuple[Tensor, ...]) -> str:
    """The type of the data among a layer's inputs and outputs: the first floating-point type, else INT8, else any.

    A Gather, Scatter or Where reads indices or conditions besides its data, and its data may be a constant, which is
    not among the inputs; a TopK writes indices. Those are INT32, INT64 or BOOL and do not decide the precision.
    """
    found = [t.precision for t in tensors]
    floats = [t for t in found if t in FLOATS.values()]
    return next(iter([*floats, *(t for t in found if t in EIGHT_BITS), *found]), UNKNOWN)


def renamed(tensors: tuple[Tensor, ...], names: Mapping[str, str]) -> tuple[Tensor, ...]:
    """The tensors, those in `names` by their new names."""
    return tuple(replace(t, name=names[t.name]) if t.name in names else t for t in tensors)

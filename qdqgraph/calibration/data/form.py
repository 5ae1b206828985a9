"""`Input`: name, type and shape of a network's input, and the checks of arrays for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ...errors import ModelError
from ..inputs import model_inputs


@dataclass(frozen=True)
class Input:
    """One input of a network.

    Attributes:
        name: its name.
        dtype: its element type.
        dims: its dimensions; None for a dynamic one.
        whole: an array for a dynamic first axis is one sample, whatever its length.
    """

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | None, ...]
    whole: bool = False

    @property
    def rows(self) -> int:
        """The length of its first axis in one sample: the batch, 1 if that is dynamic; 0 if arrays are not cut."""
        if not self.dims:
            return 0
        return self.dims[0] or (0 if self.whole else 1)

    @property
    def text(self) -> str:
        """Its type and shape, as in "float32 [N, 3, 224, 224]"."""
        return f"{self.dtype} [{', '.join('?' if d is None else str(d) for d in self.dims)}]"

    def samples(self, array: np.ndarray) -> int:
        """The number of samples in an array with the axis of the batch; at least 1."""
        return max(1, len(array) // self.rows)

    def batched(self, value: Any, where: str) -> np.ndarray:
        """An array for this input with the axis of the batch, which is added if it is missing.

        Args:
            value: an array, of one or several samples.
            where: the file or sample, for messages.

        Raises:
            ModelError: it is not an array of numbers, or has another shape.
        """
        array = value if isinstance(value, np.ndarray) else _array(value)
        if array is None or (array.dtype.kind not in "biuf" and array.dtype != self.dtype):
            raise ModelError(f"{where}: input {self.name!r} is not an array of numbers; the model takes {self.text}")
        if array.ndim == len(self.dims) - 1:
            array = array[None]
        fits = array.ndim == len(self.dims) and all(
            wanted in (None, given) for wanted, given in zip(self.dims[1:], array.shape[1:], strict=True)
        )
        if not fits:
            shape = list(array.shape)
            raise ModelError(f"{where}: input {self.name!r} has the shape {shape}, and the model takes {self.text}")
        return array

    def checked(self, array: np.ndarray, where: str) -> np.ndarray:
        """The array in the type of the input.

        Raises:
            ModelError: it contains NaN or infinity, or values that the type does not have.
        """
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            count = int((~np.isfinite(array)).sum())
            raise ModelError(f"{where}: input {self.name!r} contains NaN or infinity ({count} values): leave it out")
        if array.dtype == self.dtype:
            return array
        with np.errstate(over="ignore", invalid="ignore"):
            real = array.astype(np.float32) if self.dtype == np.float16 else array  # as the FP32 twin reads it
            made = real.astype(self.dtype)
        if self.dtype.kind in "biu" and not np.array_equal(made, array):
            raise ModelError(f"{where}: input {self.name!r} has values of type {array.dtype} that are no {self.dtype}")
        if self.dtype.kind == "f" and not np.isfinite(made).all():
            raise ModelError(f"{where}: input {self.name!r} has values beyond the range of {self.dtype}")
        return made


def inputs_of(model: onnx.ModelProto, *, whole: bool = False) -> tuple[Input, ...]:
    """The inputs of a model, in order.

    Args:
        model: the model.
        whole: as `Input.whole`.

    Raises:
        ModelError: one is not a numeric tensor.
    """
    return tuple(_input(info, whole) for info in model_inputs(model))


def _input(info: onnx.ValueInfoProto, whole: bool) -> Input:
    kind = info.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    except KeyError as error:
        raise ModelError(f"input {info.name!r} is not a numeric tensor") from error
    dims = tuple(d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim)
    return Input(info.name, dtype, dims, whole)


def _array(value: Any) -> np.ndarray | None:
    """Numbers, lists, and tensors of other libraries as an array; None if they are none."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return None

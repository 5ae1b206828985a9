"""Values of constants, also after operators that change only their shape or type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper


def array_of(tensor: onnx.TensorProto, folder: Path) -> np.ndarray | None:
    """The values of a tensor; None if its external data cannot be read."""
    try:
        return numpy_helper.to_array(tensor, str(folder))
    except (OSError, ValueError, TypeError, onnx.checker.ValidationError):
        return None


def passed_value(node: gs.Node, array: np.ndarray) -> np.ndarray | None:
    """The result of a node of the category `same_constant` on a constant; None if the type of a Cast is unknown.

    Reshape and similar do not keep the shape: the result is [] or [1] for a single element, else [elements].
    """
    if node.op == "Identity":
        return array
    if node.op == "Cast":
        try:
            return array.astype(onnx.helper.tensor_dtype_to_np_dtype(int(node.attrs["to"])))
        except (KeyError, TypeError, ValueError):
            return None
    if array.size == 1:
        return array.reshape(()) if node.op == "Squeeze" else array.reshape((1,))
    return array.reshape(-1)


def constant_value(node: onnx.NodeProto, folder: Path) -> np.ndarray | None:
    """The value of a Constant node; None if it is not numeric, or its external data cannot be read."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return array_of(attribute.t, folder)
        if attribute.name in ("value_float", "value_floats"):
            value = onnx.helper.get_attribute_value(attribute)
            return np.asarray(value, np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(onnx.helper.get_attribute_value(attribute), np.int64)
    return None

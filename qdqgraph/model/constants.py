"""Values of constants, and of operators that read constants only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from .inline.references import Reference, reference
from .inline.whole import resolved

NATIVE = frozenset(
    TensorProto.DataType.Value(name)
    for name in ("FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64")
)
"""Element types whose raw data are an array of NumPy's own type."""


def array_of(tensor: onnx.TensorProto, folder: Path) -> np.ndarray | None:
    """The values of a tensor, which is not changed; None if its external data cannot be read."""
    own = reference(tensor)
    if own is not None and tensor.data_type in NATIVE and sys.byteorder == "little":
        return _native(tensor, own)
    if own is not None:
        tensor = resolved(tensor)
    elif tensor.external_data:  # before 1.23, onnx stores what it reads in the tensor
        copy = TensorProto()
        copy.CopyFrom(tensor)
        tensor = copy
    try:
        return numpy_helper.to_array(tensor, str(folder))
    except (OSError, RuntimeError, ValueError, TypeError, onnx.checker.ValidationError):
        return None  # RuntimeError: std::filesystem refuses the path, such as a name of more than 255 bytes


def _native(tensor: onnx.TensorProto, own: Reference) -> np.ndarray | None:
    """The values of a reference, without a second copy in memory."""
    try:
        array = np.frombuffer(own.read(), helper.tensor_dtype_to_np_dtype(tensor.data_type)).reshape(tensor.dims)
    except ValueError:  # they do not fit the dimensions
        return None
    array.flags.writeable = False
    return array


def computed(node: onnx.NodeProto, inputs: Mapping[str, np.ndarray], opset: int) -> dict[str, np.ndarray]:
    """The outputs of a node of ONNX's own domain, by name, computed by `onnx.reference`.

    Args:
        node: the node; subgraphs may capture tensors of `inputs`.
        inputs: the values of all tensors that it reads, by name.
        opset: the version of the standard opset.

    Returns:
        Empty if the reference does not know the operator, or cannot compute it from these values.
    """
    names = [name for name in node.output if name]
    imports = [helper.make_opsetid("", opset)]
    try:
        function = helper.make_function("", "node", list(inputs), names, [node], imports)
        values = ReferenceEvaluator(function).run(None, dict(inputs), attributes={})
    except Exception:  # noqa: BLE001 - implementations raise whatever numpy raises on values they cannot compute
        return {}
    return {
        name: np.asarray(v) for name, v in zip(names, values, strict=True) if isinstance(v, (np.ndarray, np.generic))
    }


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

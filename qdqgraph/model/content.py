"""`content`: a digest of what a network computes, whatever its constants are called and wherever they are stored."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from .constants import array_of, constant_value
from .protos import is_standard, rename_inputs


def content(model: onnx.ModelProto, folder: Path) -> str:
    """sha256 of what determines the values of a model's tensors: opsets, inputs, nodes, functions, and constants by
    value.

    Doc strings, metadata, and the names and order of constants do not count, nor whether a constant is an initializer
    or a Constant node, in the file or beside it.
    """
    graph, found = model.graph, hashlib.sha256()
    digests = {tensor.name: _digest(array_of(tensor, folder), tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and is_standard(node) and (array := constant_value(node, folder)) is not None:
            digests[node.output[0]] = _digest(array)
    for item in (*model.opset_import, *graph.input, *graph.node, *model.functions):
        if isinstance(item, onnx.NodeProto) and item.op_type == "Constant" and item.output[0] in digests:
            continue
        plain = type(item).FromString(item.SerializeToString())
        for name in ("doc_string", "metadata_props"):
            if name in type(item).DESCRIPTOR.fields_by_name:
                plain.ClearField(name)
        if isinstance(plain, onnx.NodeProto):
            rename_inputs(plain, digests)
        found.update(plain.SerializeToString(deterministic=True))
    return found.hexdigest()


def same(model: onnx.ModelProto, other: onnx.ModelProto, folder: Path) -> bool:
    """Whether two models have the same `content` and the same metadata."""
    entries, others = ({entry.key: entry.value for entry in each.metadata_props} for each in (model, other))
    return model is other or (entries == others and content(model, folder) == content(other, folder))


def _digest(array: np.ndarray | None, tensor: onnx.TensorProto | None = None) -> str:
    """Names the values of a constant: by type, shape and bytes, or by its tensor if these are strings or unreadable."""
    if array is None or array.dtype.kind not in "fiubcV":
        plain = onnx.TensorProto()
        plain.CopyFrom(tensor or numpy_helper.from_array(np.asarray(array)))
        plain.ClearField("name")
        return f"constant {hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest()}"
    found = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
    found.update(array.tobytes())
    return f"constant {found.hexdigest()}"

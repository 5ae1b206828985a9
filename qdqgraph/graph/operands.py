"""The types of a node's inputs, by the type variables of its operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from ..model.protos import is_standard
from .graph import Graph

REAL = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE})
"""The floating-point types that ONNX computes in."""


def read_type(graph: Graph, node: gs.Node, index: int) -> int | None:
    """The `onnx.TensorProto` data type in which a node input reads its tensor, Casts that the view leaves out included;
    None if it is unknown or the input is absent."""
    names = graph.proto(node).input
    return graph.dtype(names[index]) if index < len(names) and names[index] else None


def mixed_operands(graph: Graph, node: gs.Node) -> dict[int, int]:
    """The inputs of a node that must have one floating-point type and do not, with their `onnx.TensorProto` types, by
    index; empty for nodes without such a fault, and for operators of other domains."""
    if len(node.inputs) < 2:
        return {}
    names = graph.proto(node).input[:]
    known = {i: kind for i, name in enumerate(names) if name and (kind := graph.dtype(name)) in REAL}
    if len(set(known.values())) < 2 or not is_standard(node) or not onnx.defs.has(node.op, graph.opset):
        return {}
    schema = onnx.defs.get_schema(node.op, graph.opset)
    if not schema.inputs:
        return {}
    variables: dict[str, dict[int, int]] = {}
    last = len(schema.inputs) - 1
    for index, kind in known.items():
        formal = schema.inputs[min(index, last)]
        if formal.is_homogeneous or index < last:
            variables.setdefault(formal.type_str, {})[index] = kind
    return next((found for found in variables.values() if len(set(found.values())) > 1), {})


def numpy_type(kind: int) -> np.dtype[Any]:
    """The numpy type of an `onnx.TensorProto` data type."""
    return helper.tensor_dtype_to_np_dtype(kind)


def type_name(kind: int) -> str:
    """What to call an `onnx.TensorProto` data type in a message: FP16, INT8, BFLOAT16."""
    name = onnx.TensorProto.DataType.Name(kind)
    return {"FLOAT": "FP32", "FLOAT16": "FP16", "DOUBLE": "FP64"}.get(name, name)

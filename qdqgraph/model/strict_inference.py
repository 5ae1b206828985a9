"""`error_of`: what onnx's strict type and shape inference says of a model, with few nodes in memory at a time.

onnx parses the model that it infers, adds the types of all tensors and serializes it again: 1.6 KB a node, beside the
model itself. So a large model is inferred in parts of consecutive nodes; the types that a part reads from earlier ones
are inputs of the part. onnx joins the errors of all nodes to one text, so a model of which a part has an error is
inferred as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import onnx
import onnx.onnx_cpp2py_export.shape_inference as inference

from .protos import key, reads

PART = 1 << 12
"""Nodes that are inferred at once."""
LARGE = 1024
"""Bytes of raw data from which an initializer is left without them: types and shapes do not depend on weights."""
DECLARED = ("input", "value_info", "output")
FIELDS = (*DECLARED, "initializer", "sparse_initializer")
"""The fields of a graph that say something of tensors."""


def error_of(model: onnx.ModelProto) -> str:
    """Returns the error of strict type and shape inference, in which nodes have their keys as names; "" for none.

    onnx infers the nodes in the order of the file, so a model whose nodes are not in topological order has none.

    Args:
        model: a model in which each tensor has at most one producer; it is not modified.
    """
    graph = model.graph
    made, early, crossing = dict[str, int](), set[str](), set[str]()
    for number, node in enumerate(graph.node):
        part, outputs = number // PART, node.output[:]
        for name in reads(node):
            maker = made.get(name)
            if maker is None:
                early.add(name)
            elif maker != part:
                crossing.add(name)
        made.update(dict.fromkeys(outputs, part))
        if not early.isdisjoint(outputs):
            return ""
    if len(graph.node) > PART and _is_sound(model, made.keys() | early, crossing):
        return ""
    try:
        _inferred(_light(model, graph.node, {field: getattr(graph, field) for field in FIELDS}))
    except Exception as error:  # noqa: BLE001 - onnx raises its C++ exceptions as InferenceError, RuntimeError and others
        return str(error)
    return ""


def _is_sound(model: onnx.ModelProto, used: AbstractSet[str], crossing: AbstractSet[str]) -> bool:
    """Whether no part of a model has an error; what onnx knows of a tensor in the whole, it knows in the parts.

    Args:
        model: the model.
        used: the tensors that nodes read or produce.
        crossing: the tensors that a part reads from earlier ones.
    """
    graph = model.graph
    tables = {field: {_name(item): item for item in getattr(graph, field)} for field in FIELDS}
    if any(len(table) != len(getattr(graph, field)) for field, table in tables.items()):
        return False  # a name is listed twice
    types: dict[str, bytes] = {}
    constants: dict[str, onnx.NodeProto] = {}
    names = {name for table in tables.values() for name in table if name not in used}
    for start in range(0, len(graph.node), PART):
        nodes = graph.node[start : start + PART]
        for node in nodes:
            names.update(reads(node))
            names.update(node.output[:])
        before = [constants[name] for name in names if name in constants]
        items = {
            field: [table[name] for name in names if name in table and not (name in types and field in DECLARED)]
            for field, table in tables.items()
        }
        items["input"] += [onnx.ValueInfoProto.FromString(types[name]) for name in names if name in types]
        try:
            found = onnx.ModelProto.FromString(_inferred(_light(model, (*before, *nodes), items))).graph
        except Exception:  # noqa: BLE001 - see `error_of`
            return False
        known = {info.name: info for info in (*found.value_info, *found.output)}
        types.update((name, info.SerializeToString()) for name, info in known.items() if name in crossing)
        constants.update((key(node), node) for node in nodes if node.op_type == "Constant" and key(node) in crossing)
        names = set()
    return True


def _name(item: Any) -> str:
    return str(item.values.name if isinstance(item, onnx.SparseTensorProto) else item.name)


def _inferred(model: onnx.ModelProto) -> bytes:
    """The serialized model with the types of its tensors; raises what onnx raises."""
    data = model.SerializeToString()
    model.Clear()
    return bytes(inference.infer_shapes(data, True, True, False))  # types, strict, no values


def _light(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], items: Mapping[str, Sequence[Any]]
) -> onnx.ModelProto:
    """Returns a model of some nodes and some items of `FIELDS`, without large initializer data; each node has its key
    as its name."""
    new = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = new.graph
    graph.name = model.graph.name
    graph.node.extend(nodes)
    for node in graph.node:
        node.name = key(node)
    for field in (*DECLARED, "sparse_initializer"):
        getattr(graph, field).extend(items[field])
    for tensor in items["initializer"]:
        if tensor.external_data or len(tensor.raw_data) > LARGE:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        else:
            graph.initializer.append(tensor)
    return new

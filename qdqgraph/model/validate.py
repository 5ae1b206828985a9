"""`validate`: what no reading of a model can mend, said once and clearly, before anything is computed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import onnx
from onnx import TensorProto

from ..errors import ModelError
from .protos import key, reads

FIELDS: Mapping[int, tuple[str, int]] = {
    TensorProto.FLOAT: ("float_data", 4),
    TensorProto.DOUBLE: ("double_data", 8),
    TensorProto.INT64: ("int64_data", 8),
    TensorProto.INT32: ("int32_data", 4),
    TensorProto.INT8: ("int32_data", 1),
    TensorProto.UINT8: ("int32_data", 1),
    TensorProto.FLOAT16: ("int32_data", 2),
}
"""For each element type: where an initializer without raw data keeps its elements, one an entry; bytes an element."""
SMALL = 4096
"""Elements of the largest initializers that are looked into: scales and shapes; weights would be copied."""


def validate(model: onnx.ModelProto) -> None:
    """Looks for nodes and small initializers that mean nothing.

    Raises:
        ModelError: a node has no operator, two nodes make one tensor, nodes read each other's results in a circle, or
            an initializer holds another number of elements than its dimensions say.
    """
    nodes = list(model.graph.node)
    made = [list(node.output) for node in nodes]
    maker = {name: place for place, names in enumerate(made) for name in names}
    for place, (node, names) in enumerate(zip(nodes, made, strict=True)):
        if not node.op_type:
            raise ModelError(f"node {place} ('{node.name or key(node)}') has no operator: the file is damaged")
        twice = next((name for name in names if name and maker[name] != place), None)
        if twice is not None:
            raise ModelError(f"the tensor '{twice}' is made twice, by two nodes: no order of the graph is right")
    if any(maker.get(name, -1) >= place for place, node in enumerate(nodes) for name in node.input):
        _refuse_circle(nodes, maker)
    for tensor in model.graph.initializer:
        _refuse_cut(tensor)


def validate_references(graph: onnx.GraphProto) -> None:
    """Looks for tensors that are read and do not exist; asked of a user's graph, before rules change it.

    Raises:
        ModelError: a node reads a tensor that no node, input or initializer is.
    """
    known = {"", *(x.name for x in (*graph.input, *graph.initializer))}
    known |= {x.values.name for x in graph.sparse_initializer} | {name for node in graph.node for name in node.output}
    for node in graph.node:
        missing = next((name for name in node.input if name not in known), None)
        if missing is not None:
            raise ModelError(f"'{node.name or key(node)}' reads '{missing}', which nothing makes: the file is damaged")


def _refuse_circle(nodes: Sequence[onnx.NodeProto], maker: Mapping[str, int]) -> None:
    needs = {place: {maker[n] for n in reads(node) if n in maker} for place, node in enumerate(nodes)}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        names = " -> ".join(f"'{key(nodes[place])}'" for place in error.args[1][:6])
        raise ModelError(f"nodes read each other's results in a circle: {names}") from error


def _refuse_cut(tensor: onnx.TensorProto) -> None:
    field, size = FIELDS.get(tensor.data_type, ("", 0))
    wanted, unit = math.prod(tensor.dims), "elements"
    if not field or wanted > SMALL or tensor.external_data:
        return
    if tensor.HasField("raw_data"):
        wanted, found, unit = wanted * size, len(tensor.raw_data), "bytes"
    else:
        found = len(getattr(tensor, field))
    if found != wanted:
        what = f"needs {wanted} {unit} and holds {found}"
        raise ModelError(f"the initializer '{tensor.name}' {what}: the file is damaged")

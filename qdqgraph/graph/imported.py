"""`imported`: onnx-graphsurgeon's graph of a model, in less memory and time than its own importer needs.

That importer gives every node four dictionaries and every tensor three. Here the same classes have slots, and values
that are the same for most tensors are those of the class. Nodes and tensors are otherwise as onnx-graphsurgeon makes
them: lists of inputs and outputs are synchronized, and a Constant loads its values when they are read.

Source: `onnx_graphsurgeon.importers.onnx_importer`, versions 0.5.8 to 0.6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from sys import intern
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto
from onnx_graphsurgeon.importers.onnx_importer import OnnxImporter
from onnx_graphsurgeon.ir.tensor import LazyValues
from onnx_graphsurgeon.util.misc import SynchronizedList

from ..model.protos import STANDARD
from ..operators import OPERATORS, PAIRS

ALIKE = (*STANDARD, "com.microsoft")
"""Domains whose operators are those of ONNX where they have their names."""
NAMES = frozenset(operator.name for operator in OPERATORS)
"""The operators that rules know, whatever onnx is installed."""
put = object.__setattr__
"""Sets an attribute without the `__setattr__` of onnx-graphsurgeon, which replaces lists in place."""


class Inputs(SynchronizedList):
    """The inputs of a node, or the producers of a tensor."""

    __slots__ = ("parent_obj",)
    field_name = "outputs"

    def __init__(self, parent: object, items: Iterable[Any] = ()) -> None:
        self.parent_obj = parent
        list.extend(self, items)
        for item in items:
            list.append(item.outputs, parent)


class Outputs(SynchronizedList):
    """The outputs of a node, or the consumers of a tensor."""

    __slots__ = ("parent_obj",)
    field_name = "inputs"

    def __init__(self, parent: object, items: Iterable[Any] = ()) -> None:
        self.parent_obj = parent
        list.extend(self, items)
        for item in items:
            list.append(item.inputs, parent)


class Node(gs.Node):
    """A node of the standard form."""

    __slots__ = ("attrs", "domain", "inputs", "name", "op", "outputs")

    def __init__(
        self, proto: onnx.NodeProto, attributes: dict[str, Any], inputs: list[Any], outputs: list[Any]
    ) -> None:
        put(self, "op", intern(proto.op_type))
        put(self, "name", proto.name)
        put(self, "attrs", attributes)
        put(self, "domain", proto.domain if proto.HasField("domain") else None)
        put(self, "inputs", Inputs(self, inputs))
        put(self, "outputs", Outputs(self, outputs))


class Variable(gs.Variable):
    """A tensor that a node computes, or an input of the graph."""

    __slots__ = ("inputs", "name", "outputs")
    dtype = None
    shape = None
    type = "tensor_type"

    def __init__(self, name: str) -> None:
        put(self, "name", name)
        put(self, "inputs", Inputs(self))
        put(self, "outputs", Outputs(self))


class Constant(gs.Constant):
    """An initializer, or the tensor of an attribute."""

    __slots__ = ("_values", "inputs", "name", "outputs")
    data_location = None
    _export_dtype = None

    def __init__(self, tensor: onnx.TensorProto) -> None:
        put(self, "name", tensor.name)
        put(self, "inputs", Inputs(self))
        put(self, "outputs", Outputs(self))
        put(self, "_values", LazyValues(tensor))
        if tensor.HasField("data_location"):
            put(self, "data_location", int(tensor.data_location))


READ: Mapping[int, Callable[[AttributeProto], Any]] = {
    AttributeProto.FLOAT: lambda attribute: attribute.f,
    AttributeProto.INT: lambda attribute: attribute.i,
    AttributeProto.STRING: lambda attribute: attribute.s.decode(),
    AttributeProto.TENSOR: lambda attribute: Constant(attribute.t),
    AttributeProto.FLOATS: lambda attribute: list(attribute.floats),
    AttributeProto.INTS: lambda attribute: list(attribute.ints),
    AttributeProto.STRINGS: lambda attribute: [text.decode() for text in attribute.strings],
}
"""The value of an attribute, by its type; all other types are left to onnx-graphsurgeon."""


def imported(model: onnx.ModelProto) -> gs.Graph:
    """onnx-graphsurgeon's graph of a model; its own importer makes that of a model with functions, subgraphs or sparse
    tensors."""
    graph = model.graph
    if model.functions or graph.sparse_initializer or any(map(_is_other, graph.node)):
        return gs.import_onnx(model)
    tensors: dict[str, Any] = {}
    for initializer in graph.initializer:
        if initializer.name not in tensors:
            tensors[initializer.name] = Constant(initializer)
    fixed = set(tensors)
    for info in graph.value_info:
        _declared(info, tensors, again=True)
    inputs = [_declared(info, tensors) for info in graph.input if info.name not in fixed]
    outputs = [_declared(info, tensors) for info in graph.output]
    nodes = [_node(node, tensors) for node in graph.node]
    made = gs.Graph(
        inputs=inputs,
        outputs=outputs,
        name=graph.name,
        doc_string=graph.doc_string,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        opset=next((entry.version for entry in model.opset_import if entry.domain in STANDARD), None),
        import_domains=model.opset_import,
    )
    made.ir_version = model.ir_version  # 0.5.8 has no such argument
    made.nodes = nodes
    return made


def distinguish(graph: gs.Graph) -> None:
    """Names each operator of another domain that has the name of one of ONNX, which it is not, with its domain:
    "acme.Mul". The operators of ONNX Runtime (com.microsoft), and Q and DQ of any domain, are those of ONNX."""
    for node in graph.nodes:
        domain = node.domain
        if domain and domain not in ALIKE and node.op not in PAIRS and (node.op in NAMES or onnx.defs.has(node.op)):
            node.op = f"{domain}.{node.op}"


def _is_other(node: onnx.NodeProto) -> bool:
    """Whether a node has an attribute that `READ` does not read."""
    return any(attribute.type not in READ or attribute.ref_attr_name for attribute in node.attribute)


def _declared(info: onnx.ValueInfoProto, tensors: dict[str, Any], *, again: bool = False) -> Any:
    """The tensor of a declaration; `again` completes one that is declared already."""
    known = tensors.get(info.name)
    if known is not None and (not again or isinstance(known, gs.Constant)):
        return known
    found = OnnxImporter.import_tensor(info)
    tensor = tensors.setdefault(info.name, Variable(info.name))
    tensor.dtype, tensor.shape = tensor.dtype or found.dtype, tensor.shape or found.shape
    tensor.type = found.type if known is None else known.type
    return tensor


def _node(proto: onnx.NodeProto, tensors: dict[str, Any]) -> Node:
    attributes = {intern(attribute.name): READ[attribute.type](attribute) for attribute in proto.attribute}
    ends = []
    for names in (proto.input, proto.output):
        found = []
        for name in names:
            tensor = tensors.get(name) if name else Variable("")
            if tensor is None:
                tensor = tensors[name] = Variable(name)
            found.append(tensor)
        ends.append(found)
    return Node(proto, attributes, *ends)

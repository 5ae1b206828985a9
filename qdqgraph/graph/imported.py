"""`imported`: onnx-graphsurgeon's graph of a model, in less memory and time than its own importer needs.

That importer gives every node four dictionaries and every tensor three. Here the same classes have slots, and values
that are the same for most tensors are those of the class. Nodes and tensors are otherwise as onnx-graphsurgeon makes
them: lists of inputs and outputs are synchronized, and a Constant loads its values when they are read.

Source: `onnx_graphsurgeon.importers.onnx_importer`, versions 0.5.8 to 0.6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
            list.extend(item.outputs, (parent,))  # `append` leaves room for four


class Outputs(SynchronizedList):
    """The outputs of a node, or the consumers of a tensor."""

    __slots__ = ("parent_obj",)
    field_name = "inputs"

    def __init__(self, parent: object, items: Iterable[Any] = ()) -> None:
        self.parent_obj = parent
        list.extend(self, items)
        for item in items:
            list.extend(item.inputs, (parent,))  # `append` leaves room for four


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
    if model.functions or graph.sparse_initializer:
        return gs.import_onnx(model)
    tensors = _Tensors()
    for initializer in graph.initializer:
        if initializer.name not in tensors:
            tensors[initializer.name] = Constant(initializer)
    fixed = set(tensors)
    for info in graph.value_info:
        _declared(info, tensors, again=True)
    inputs = [_declared(info, tensors) for info in graph.input if info.name not in fixed]
    outputs = [_declared(info, tensors) for info in graph.output]
    try:
        nodes = [_node(node, tensors) for node in graph.node]
    except _OtherError:
        return gs.import_onnx(model)
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


class _Tensors(dict[str, Any]):
    """The tensors of a graph by name; one that is not declared is made when it is asked for, and one without a name
    each time."""

    def __missing__(self, name: str) -> Variable:
        made = Variable(name)
        if name:
            self[name] = made
        return made


def dissolve(graph: gs.Graph) -> None:
    """Lets the memory of a graph go with its last reference. Nodes and tensors refer to each other, and in a process
    that rarely looks for such cycles, because a graph has millions of small objects, they would stay. Nodes and tensors
    that are still in use lose their inputs and outputs."""
    for node in graph.nodes:
        for tensor in (*node.inputs, *node.outputs):
            put(tensor, "inputs", None)
            put(tensor, "outputs", None)
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                dissolve(value)
            elif isinstance(value, gs.Tensor):
                put(value, "inputs", None)
                put(value, "outputs", None)
    for node in graph.nodes:
        put(node, "inputs", None)
        put(node, "outputs", None)


class _OtherError(Exception):
    """A node has an attribute that `READ` does not read."""


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


def _node(proto: onnx.NodeProto, tensors: _Tensors) -> Node:
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute[:]:
        read = READ.get(attribute.type)
        if read is None or attribute.ref_attr_name:
            raise _OtherError
        attributes[intern(attribute.name)] = read(attribute)
    inputs, outputs = [tensors[name] for name in proto.input[:]], [tensors[name] for name in proto.output[:]]
    return Node(proto, attributes, inputs, outputs)


def captured(node: gs.Node) -> Iterator[str]:
    """Names that the subgraphs of a node read from outside, once each."""
    seen: set[str] = set()
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            made = {t.name for n in value.nodes for t in n.outputs} | {t.name for t in value.inputs}
            read = [t.name for n in value.nodes for t in n.inputs] + [t.name for t in value.outputs]
            read += [name for n in value.nodes for name in captured(n)]
            for name in read:
                if name and name not in made and name not in seen:
                    seen.add(name)
                    yield name

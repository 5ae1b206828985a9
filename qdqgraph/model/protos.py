"""Queries on a ModelProto: opset version, tensor names, element types, subgraphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from . import shapes

STANDARD = ("", "ai.onnx")
_KIND = onnx.AttributeProto
NUMBERS = frozenset({_KIND.FLOAT, _KIND.INT, _KIND.STRING, _KIND.FLOATS, _KIND.INTS, _KIND.STRINGS})
"""Types of attributes without tensors and graphs."""
PLAIN = NUMBERS | {_KIND.TENSOR, _KIND.TENSORS}
"""Types of attributes without graphs."""


def version(model: onnx.ModelProto) -> int:
    """Returns the version of the standard operator set that the model imports, 1 if it imports none."""
    return max((o.version for o in model.opset_import if o.domain in STANDARD), default=1)


def is_standard(node: onnx.NodeProto | gs.Node) -> bool:
    """Returns whether the operator is in the standard domain; onnx-graphsurgeon may report that domain as None."""
    return (node.domain or "") in STANDARD


def names(graph: onnx.GraphProto) -> Iterator[str]:
    """Yields every tensor name of a graph and of its subgraphs."""
    return chain.from_iterable(_names(graph))


def _names(graph: onnx.GraphProto) -> Iterator[Sequence[str]]:
    yield [item.name for item in (*graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        yield node.input[:]  # a slice: protobuf takes three times as long for the names one by one
        yield node.output[:]
        for inner in subgraphs(node):
            yield from _names(inner)


def subgraphs(node: onnx.NodeProto) -> Sequence[onnx.GraphProto]:
    """Returns the subgraphs of a node: the branches of an If, the body of a Loop or Scan."""
    attributes = node.attribute[:]  # most nodes have none
    if not attributes:
        return ()
    return [g for a in attributes if a.type not in PLAIN for g in ((a.g,) if a.HasField("g") else a.graphs[:])]


def nested(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yields a node and the nodes of its subgraphs."""
    yield node
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from nested(inner)


def key(node: onnx.NodeProto) -> str:
    """Returns the name of the node's first named output, which identifies the node in edits; "" if it has none."""
    for name in node.output[:]:
        if name:
            return name
    return ""


def reads(node: onnx.NodeProto) -> list[str]:
    """Returns every tensor name that the node consumes, including those that its subgraphs read from outside."""
    found = node.input[:]
    if "" in found:
        found = [name for name in found if name]
    for graph in subgraphs(node):
        own = _own(graph)
        used = chain(chain.from_iterable(map(reads, graph.node)), (o.name for o in graph.output))
        found += (name for name in used if name not in own)
    return found


def is_ordered(nodes: Iterable[onnx.NodeProto]) -> bool:
    """Returns whether no node, its subgraphs included, reads what it or a later one produces."""
    read: set[str] = set()
    for node in nodes:
        read.update(reads(node))
        if not read.isdisjoint(node.output[:]):
            return False
    return True


def _own(graph: onnx.GraphProto) -> set[str]:
    """Returns the names that a subgraph declares or computes: they hide those of the graphs around it."""
    own = {item.name for item in (*graph.input, *graph.initializer)}
    own.update(item.values.name for item in graph.sparse_initializer)
    for node in graph.node:
        own.update(node.output[:])
    return own


def rename_inputs(node: onnx.NodeProto, by: Mapping[str, str]) -> None:
    """Lets a node, and its subgraphs, read tensors from outside under other names; in place."""
    for index, name in enumerate(node.input):
        node.input[index] = by.get(name, name)
    for inner in subgraphs(node):
        own = _own(inner)
        outer = {name: new for name, new in by.items() if name not in own}
        for each in inner.node:
            rename_inputs(each, outer)
        for info in inner.output:
            info.name = outer.get(info.name, info.name)


def refill(field: Any, items: Iterable[Any]) -> None:
    """Replaces the contents of a repeated field of messages, in place.

    Items that belong to the field stay the same messages: protobuf would keep the memory of what is copied and removed
    until the whole model is gone. All others, and what is listed twice, are copied.
    """
    wanted = list(items)
    present = list(field)  # as long as they are referenced, protobuf returns the same objects
    own, places = set(map(id, present)), dict[int, int]()
    for place, item in enumerate(wanted):
        if id(item) not in own or id(item) in places:
            copy = field.add()
            copy.CopyFrom(item)
            present.append(item := copy)
        places[id(item)] = place
    field.sort(key=lambda item: places.get(id(item), len(wanted)))
    del field[len(wanted) :]


def copy_fields(old: Any, new: Any, *, besides: str) -> None:
    """Copies the fields of a message to an empty one of its type, without one of them."""
    for field, value in old.ListFields():
        if field.name == besides:
            continue
        if hasattr(value, "append"):
            getattr(new, field.name).extend(value)
        elif field.message_type is not None:
            getattr(new, field.name).CopyFrom(value)
        else:
            setattr(new, field.name, value)


def set_metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    """Adds or changes a metadata entry of a model, in place."""
    for entry in model.metadata_props:
        if entry.key == key:
            entry.value = value
            return
    model.metadata_props.add(key=key, value=value)


def with_metadata(model: onnx.ModelProto, key: str, value: str) -> onnx.ModelProto:
    """Returns a copy of a model in which a metadata entry has this value."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    set_metadata(made, key, value)
    return made


def fresh(wanted: str, taken: set[str]) -> str:
    """Returns an unused name, `wanted` or `wanted_N` with the first free N, and adds it to `taken`."""
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Returns the element type (TensorProto.DataType) of every tensor of the main graph whose type is known."""
    graph = model.graph
    types = {t.name: t.data_type for t in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.HasField("tensor_type") and info.type.tensor_type.elem_type:
            types.setdefault(info.name, info.type.tensor_type.elem_type)
    for name, known in shapes.infer(model).items():
        types.setdefault(name, known[0])
    opset = version(model)
    for node in graph.node:
        if any(name and name not in types for name in node.output) and node.domain in STANDARD:
            for name, found in _inner(node):
                types.setdefault(name, found)
            _bind(node, opset, types)
    return types


def _inner(node: onnx.NodeProto) -> Iterator[tuple[str, int]]:
    """Yields the output types of If, Loop and Scan as their subgraphs declare them; Loop's first is its condition."""
    for graph in subgraphs(node):
        declared = [o.type.tensor_type.elem_type for o in graph.output][node.op_type == "Loop" :]
        yield from ((name, kind) for name, kind in zip(node.output, declared, strict=False) if name and kind)


def _bind(node: onnx.NodeProto, opset: int, types: dict[str, int]) -> None:
    """Adds the types of outputs that shape inference left open, from inputs with the same type variable."""
    if not onnx.defs.has(node.op_type, opset):
        return
    schema = onnx.defs.get_schema(node.op_type, opset)
    bound: dict[str, int] = {}
    for index, name in enumerate(node.input):
        if name in types and schema.inputs:
            bound.setdefault(schema.inputs[min(index, len(schema.inputs) - 1)].type_str, types[name])
    if node.op_type == "Cast":
        bound[schema.outputs[0].type_str] = next((int(a.i) for a in node.attribute if a.name == "to"), 0)
    for index, name in enumerate(node.output):
        kind = schema.outputs[min(index, len(schema.outputs) - 1)].type_str if schema.outputs else ""
        if name and name not in types:
            found = bound.get(kind) or _NAMED.get(kind)
            if found:
                types[name] = found


_NAMED = {"tensor(float)": TensorProto.FLOAT, "tensor(int64)": TensorProto.INT64, "tensor(bool)": TensorProto.BOOL}

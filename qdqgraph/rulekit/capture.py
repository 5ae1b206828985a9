"""Keeps the new tensors of a `Graft` apart from tensors of the model that have the same name.

A Python rule writes both as text: in `make_node("Add", ["tmp", x], y)` only the rule knows whether "tmp" is its own new
tensor or the model's. If the model has a tensor of that name, the rule runs again on a copy of the model in which that
tensor has another name. What the rule then calls by the other name is the model's tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import onnx

from ..errors import NameClashError
from ..graph.graph import Graph
from ..model.protos import fresh, subgraphs
from ..proposals.proposal import Constant, Graft
from .finding import Finding
from .proposed import tensor_names

Find = Callable[[Graph], list[Finding]]
"""Runs a rule on a graph."""


def separated(graph: Graph, find: Find) -> list[Finding]:
    """Returns the findings of a rule; no new tensor of a graft has the name of a tensor of the model that it consumes.

    Args:
        graph: the graph.
        find: runs the rule on the graph, or on a copy of it with other names.

    Raises:
        NameClashError: two new nodes produce one tensor.
    """
    known, used, other = graph.once(tensor_names), set[str](), dict[str, str]()
    while True:
        view = Graph(_renamed(graph.model, other), graph.folder, target=graph.target) if other else graph
        own = {new: name for name, new in other.items()}
        try:
            found = find(view)
            clashes = set[str]()
        except NameClashError as error:
            found, clashes = [], {error.name} & view.once(tensor_names)
            if not clashes:
                raise
        grafts = [e for f in found for e in f.edits if isinstance(e, Graft)]
        used |= {name for e in grafts for name in e.fresh}
        clashes |= {n for e in grafts for n in e.fresh if n in view.once(tensor_names) and _reads(e, n)}
        if not clashes:
            return [_back(f, own, used | known) for f in found] if own else found
        taken = known | used | clashes
        for name in sorted(own.get(name, name) for name in clashes):
            other[name] = fresh(f"{name}_of_model", {*taken, *other.values()})


def _back(found: Finding, own: Mapping[str, str], taken: set[str]) -> Finding:
    """Returns a finding of the renamed model for the model itself."""
    said = found.message, found.help, found.node
    for new, name in own.items():
        said = said[0].replace(new, name), said[1].replace(new, name), said[2].replace(new, name)
    edits = tuple(_graft(e, own, set(taken)) if isinstance(e, Graft) else _named(e, own) for e in found.edits)
    new_place, tie = own.get(found.place, found.place), _named(found.tie, own)
    return replace(found, message=said[0], help=said[1], node=said[2], place=new_place, tie=tie, edits=edits)


def _graft(edit: Graft, own: Mapping[str, str], taken: set[str]) -> Graft:
    """Returns a graft for the model: new tensors with the name of one that it consumes get another."""
    new = {name: fresh(name, taken) for name in edit.fresh if name in own.values()}
    both = {**own, **new}
    return replace(_named(edit, both), nodes=tuple(_renamed_node(data, both) for data in edit.nodes))


def _named(value: Any, by: Mapping[str, str]) -> Any:
    """Returns a proposal with other names of tensors."""
    if isinstance(value, str):
        return by.get(value, value)
    if isinstance(value, tuple):
        return tuple(_named(v, by) for v in value)
    if is_dataclass(value) and not isinstance(value, type | Constant):
        return replace(value, **{f.name: _named(getattr(value, f.name), by) for f in fields(value)})
    return value


def _reads(edit: Graft, name: str) -> bool:
    """Returns whether a new node of a graft consumes, or a rewired reader gets, a tensor of this name."""
    if any(rewire.tensor == name for rewire in edit.rewires):
        return True
    word = name.encode()
    return any(word in data and name in _inputs(onnx.NodeProto.FromString(data)) for data in edit.nodes)


def _inputs(node: onnx.NodeProto) -> set[str]:
    found = set(node.input)
    for graph in subgraphs(node):
        found |= {name for inner in graph.node for name in _inputs(inner)} | {o.name for o in graph.output}
    return found


def _renamed_node(data: bytes, by: Mapping[str, str]) -> bytes:
    node = onnx.NodeProto.FromString(data)
    _rename(node, by)
    return node.SerializeToString(deterministic=True)


def _renamed(model: onnx.ModelProto, by: Mapping[str, str]) -> onnx.ModelProto:
    """Returns the model with other names for some tensors."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    _rename_graph(new.graph, by)
    return new


def _rename_graph(graph: onnx.GraphProto, by: Mapping[str, str]) -> None:
    for item in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        item.name = by.get(item.name, item.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = by.get(sparse.values.name, sparse.values.name)
    for note in graph.quantization_annotation:
        note.tensor_name = by.get(note.tensor_name, note.tensor_name)
    for node in graph.node:
        _rename(node, by)


def _rename(node: onnx.NodeProto, by: Mapping[str, str]) -> None:
    for field in (node.input, node.output):
        for index, name in enumerate(field):
            field[index] = by.get(name, name)
    for graph in subgraphs(node):
        _rename_graph(graph, by)

"""Upgrades a model to a later operator set, node by node.

`onnx.version_converter` rewrites a whole model and loses what its internal representation does not cover: functions,
and the metadata of graph and nodes (measured, onnx 1.23). Most operators do not change between two operator sets.
Therefore each node whose operator changed is converted in a model of its own and replaced by the result; everything
else stays unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx
from onnx import helper, version_converter

from ..errors import ModelError
from . import shapes
from .conformance import fitting_opset, node_fault
from .protos import STANDARD, fresh, key, names, refill, subgraphs, version


def raised(model: onnx.ModelProto, target: int) -> onnx.ModelProto:
    """Returns a copy of the model in opset `target` of the standard domain, or in its own opset if that is newer.

    Raises:
        ModelError: a node cannot be converted to that opset, or the conversion would change a function of the model.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    old = version(model)
    if old >= target:
        return new
    for function in new.functions:
        raise_function(function, target)
    imports = [entry for entry in new.opset_import if entry.domain in STANDARD] or [new.opset_import.add()]
    for entry in imports:
        entry.version = target
    new.ir_version = max(new.ir_version, helper.find_min_ir_version_for(list(new.opset_import), ignore_unknown=True))
    _Raising(shapes.infer(model), set(names(model.graph)), old, target).graph(new.graph)
    return new


def converted(
    node: onnx.NodeProto, known: Mapping[str, tuple[int, shapes.Dims | None]], taken: set[str], old: int, target: int
) -> tuple[Sequence[onnx.NodeProto], Sequence[onnx.TensorProto]]:
    """Returns the nodes that replace a node of opset `old` in opset `target`, and the constants they need.

    Args:
        node: a node of the standard domain; it is not modified.
        known: types and dimensions of its tensors; FP32 is assumed for those that are missing.
        taken: tensor names of the graph; the new ones are added.
        old: the opset of the node.
        target: the later opset.

    Raises:
        ModelError: the node cannot be converted.
    """
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return _Raising(known, taken, old, target).one(copied)


def raise_function(function: onnx.FunctionProto, target: int) -> None:
    """Converts the nodes of a local function to opset `target`, in place; a later opset stays.

    Raises:
        ModelError: a node cannot be converted to that opset, for example because its attribute is one of the function.
    """
    entry = next((o for o in function.opset_import if o.domain in STANDARD), None)
    if entry is None or entry.version >= target:
        return
    if not settles(function.node, entry.version, target):
        body = helper.make_graph(function.node, function.name, [], [])
        _Raising({}, {*names(body), *function.input}, entry.version, target).graph(body)
        constants = [helper.make_node("Constant", [], [t.name], value=t) for t in body.initializer]
        refill(function.node, [*constants, *body.node])
    entry.version = target


def settles(nodes: Iterable[onnx.NodeProto], old: int, new: int) -> bool:
    """Returns whether the nodes, with those of their subgraphs, mean the same in two opsets."""
    for node in nodes:
        if node.domain in STANDARD and _since(node, old) != _since(node, new):
            return False
        if not all(settles(graph.node, old, new) for graph in subgraphs(node)):
            return False
    return True


def _since(node: onnx.NodeProto, opset: int) -> int:
    """Returns the opset that defines the operator of a node; 0 if the opset lacks it."""
    return onnx.defs.get_schema(node.op_type, opset).since_version if onnx.defs.has(node.op_type, opset) else 0


class _Raising:
    def __init__(
        self, known: Mapping[str, tuple[int, shapes.Dims | None]], taken: set[str], old: int, target: int
    ) -> None:
        self.known, self.taken, self.old, self.target = known, taken, old, target
        self.alike: set[object] = set()
        """Kinds of nodes that conversion leaves unchanged."""

    def graph(self, graph: onnx.GraphProto) -> None:
        """Converts the nodes of a graph and of its subgraphs in place."""
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            inner = list(subgraphs(node))
            for body in inner:
                self.graph(body)
            if inner or node.domain not in STANDARD or not self._changed(node):
                nodes.append(node)
                continue
            converted, constants = self.one(node)
            nodes += converted
            graph.initializer.extend(constants)
        refill(graph.node, nodes)

    def _changed(self, node: onnx.NodeProto) -> bool:
        """Returns whether the operator changed; an operator missing from the old opset has its later definition."""
        if not onnx.defs.has(node.op_type, self.target):
            return True
        later = onnx.defs.get_schema(node.op_type, self.target).since_version
        return onnx.defs.has(node.op_type, self.old) and (
            onnx.defs.get_schema(node.op_type, self.old).since_version != later
        )

    def one(self, node: onnx.NodeProto) -> tuple[Sequence[onnx.NodeProto], Sequence[onnx.TensorProto]]:
        """Returns the nodes that replace a node in the new opset, and the constants they need."""
        kind = self._kind(node)
        if kind in self.alike:
            return [node], []
        old = self.old
        if node_fault(node, old):  # a node that the exporter wrote for another opset
            own = fitting_opset(node, old) or old
            if own > old:
                return [node], []
            old = own
        if any(a.ref_attr_name for a in node.attribute):
            raise ModelError(
                f"node '{key(node)}' ({node.op_type}) changed between opset {self.old} and {self.target}, and its "
                f"attribute is one of a local function: export the model with opset {self.target}"
            )
        inputs = [_value(name, self.known) for name in dict.fromkeys(node.input) if name]
        outputs = [_value(name, self.known) for name in node.output if name]
        alone = helper.make_model(
            helper.make_graph([node], "one", inputs, outputs), opset_imports=[helper.make_opsetid("", old)]
        )
        try:
            converted = version_converter.convert_version(alone, self.target).graph
            for item in converted.node:
                onnx.defs.get_schema(item.op_type, self.target)
        except Exception as error:  # onnx raises its C++ exceptions as RuntimeError, ConvertError and others
            name = node.name or next(iter(node.output), "")
            reason = str(error).strip().splitlines()[-1][:200]
            raise ModelError(
                f"onnx.version_converter cannot convert node {name!r} ({node.op_type}) to opset {self.target}, which "
                f"the repair needs: {reason}; export the model with opset {self.target}"
            ) from error
        if len(converted.node) == 1 and not converted.initializer and _same(converted.node[0], node):
            self.alike.add(kind)
            return [node], []
        return self._spliced(node, converted)

    def _kind(self, node: onnx.NodeProto) -> object:
        """Returns what a conversion depends on: operator, non-tensor attributes, given inputs and their ranks."""
        tensor = onnx.AttributeProto.TENSOR
        attributes = [(a.name, a.SerializeToString() if a.type != tensor else b"") for a in node.attribute]
        dims = [self.known.get(name, (0, None))[1] for name in node.input]
        ranks = [-1 if each is None else len(each) for each in dims]
        return (node.op_type, tuple(sorted(attributes)), tuple(map(bool, node.input)), tuple(ranks), len(node.output))

    def _spliced(
        self, node: onnx.NodeProto, converted: onnx.GraphProto
    ) -> tuple[Sequence[onnx.NodeProto], Sequence[onnx.TensorProto]]:
        """Returns the converted nodes with unique tensor names; the main node keeps its name and metadata."""
        outer = {name for name in (*node.input, *node.output) if name}
        renamed = {name: fresh(f"{node.output[0]}_{name.strip('_')}", self.taken) for name in _inner(converted, outer)}
        for item in converted.node:
            for field in (item.input, item.output):
                for index, name in enumerate(field):
                    field[index] = renamed.get(name, name)
            item.ClearField("name" if item.op_type != node.op_type else "doc_string")
        main = next((n for n in converted.node if n.op_type == node.op_type), converted.node[-1])
        main.name, main.doc_string = node.name, node.doc_string
        del main.metadata_props[:]
        main.metadata_props.extend(node.metadata_props)
        for tensor in converted.initializer:
            tensor.name = renamed.get(tensor.name, tensor.name)
        return list(converted.node), list(converted.initializer)


def _inner(graph: onnx.GraphProto, outer: set[str]) -> Iterator[str]:
    return (name for name in dict.fromkeys(names(graph)) if name and name not in outer)


def _same(a: onnx.NodeProto, b: onnx.NodeProto) -> bool:
    """Returns whether two nodes have the same operator, inputs and attributes."""
    attributes = [sorted((t.name, t.SerializeToString(deterministic=True)) for t in n.attribute) for n in (a, b)]
    inputs = [[*n.input] for n in (a, b)]
    for names_ in inputs:
        while names_ and not names_[-1]:
            names_.pop()
    return a.op_type == b.op_type and attributes[0] == attributes[1] and inputs[0] == inputs[1]


def _value(name: str, known: Mapping[str, tuple[int, shapes.Dims | None]]) -> onnx.ValueInfoProto:
    """Returns the ValueInfo of a tensor of a node that is converted alone; FP32 if the type is unknown."""
    kind, dims = known.get(name, (onnx.TensorProto.FLOAT, None))
    return helper.make_tensor_value_info(name, kind, dims)

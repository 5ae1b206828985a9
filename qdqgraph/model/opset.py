"""A later operator set for a model, node by node.

`onnx.version_converter` rewrites a whole model and loses what its internal form does not know: functions, metadata of
graph and nodes (measured, onnx 1.23). Most operators do not change between two sets. So only a node whose operator did
is converted, alone in a model of its own, and what comes back takes its place; all else stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx
from onnx import helper, version_converter

from ..errors import ModelError
from . import shapes
from .protos import STANDARD, fresh, names, refill, subgraphs, version


def raised(model: onnx.ModelProto, target: int) -> onnx.ModelProto:
    """A copy of the model in operator set `target` of the standard domain; the same set where it is that late already.

    Raises:
        ModelError: a node has no form in that operator set, or a function of the model would change its meaning.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    old = version(model)
    if old >= target:
        return new
    for function in new.functions:
        _settle(function, target)
    for entry in new.opset_import:
        if entry.domain in STANDARD:
            entry.version = target
    new.ir_version = max(new.ir_version, helper.find_min_ir_version_for(list(new.opset_import), ignore_unknown=True))
    _Raising(model, old, target).graph(new.graph)
    return new


class _Raising:
    def __init__(self, model: onnx.ModelProto, old: int, target: int) -> None:
        self.old, self.target = old, target
        self.known = shapes.infer(model)
        self.taken = set(names(model.graph))
        self.alike: set[object] = set()
        """Kinds of nodes that conversion leaves as they are."""

    def graph(self, graph: onnx.GraphProto) -> None:
        """Converts the nodes of a graph in place, those of graphs inside it as well."""
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            inner = list(subgraphs(node))
            for body in inner:
                self.graph(body)
            if inner or node.domain not in STANDARD or not self._changed(node):
                nodes.append(node)
                continue
            made, constants = self._converted(node)
            nodes += made
            graph.initializer.extend(constants)
        refill(graph.node, nodes)

    def _changed(self, node: onnx.NodeProto) -> bool:
        """Whether the operator changed; one that the old set lacks has the later form, whatever its file says."""
        if not onnx.defs.has(node.op_type, self.target):
            return True
        later = onnx.defs.get_schema(node.op_type, self.target).since_version
        return onnx.defs.has(node.op_type, self.old) and (
            onnx.defs.get_schema(node.op_type, self.old).since_version != later
        )

    def _converted(self, node: onnx.NodeProto) -> tuple[Sequence[onnx.NodeProto], Sequence[onnx.TensorProto]]:
        """The nodes that stand for a node in the new set, and the constants they need."""
        kind = self._kind(node)
        if kind in self.alike:
            return [node], []
        inputs = [_value(name, self.known) for name in dict.fromkeys(node.input) if name]
        outputs = [_value(name, self.known) for name in node.output if name]
        alone = helper.make_model(
            helper.make_graph([node], "one", inputs, outputs), opset_imports=[helper.make_opsetid("", self.old)]
        )
        try:
            made = version_converter.convert_version(alone, self.target).graph
            for item in made.node:
                onnx.defs.get_schema(item.op_type, self.target)
        except Exception as error:  # onnx raises its C++ exceptions as RuntimeError, ConvertError and their like
            name = node.name or next(iter(node.output), "")
            reason = str(error).strip().splitlines()[-1][:200]
            raise ModelError(
                f"node {name!r} ({node.op_type}) has no form in operator set {self.target}, which the repair needs, "
                f"for the onnx package's converter: {reason}; export the model with opset {self.target}"
            ) from error
        if len(made.node) == 1 and not made.initializer and _same(made.node[0], node):
            self.alike.add(kind)
            return [node], []
        return self._spliced(node, made)

    def _kind(self, node: onnx.NodeProto) -> object:
        """What a conversion depends on: operator, attributes but for tensors, which inputs there are, their ranks."""
        tensor = onnx.AttributeProto.TENSOR
        said = [(a.name, a.SerializeToString() if a.type != tensor else b"") for a in node.attribute]
        ranks = [-1 if (known := self.known.get(name)) is None else len(known[1]) for name in node.input]
        return (node.op_type, tuple(sorted(said)), tuple(map(bool, node.input)), tuple(ranks), len(node.output))

    def _spliced(
        self, node: onnx.NodeProto, made: onnx.GraphProto
    ) -> tuple[Sequence[onnx.NodeProto], Sequence[onnx.TensorProto]]:
        """Converted nodes under names that fit the model; the one that does the work keeps name and metadata."""
        here = {name for name in (*node.input, *node.output) if name}
        renamed = {name: fresh(f"{node.output[0]}_{name.strip('_')}", self.taken) for name in _inner(made, here)}
        for item in made.node:
            for field in (item.input, item.output):
                for index, name in enumerate(field):
                    field[index] = renamed.get(name, name)
            item.ClearField("name" if item.op_type != node.op_type else "doc_string")
        main = next((n for n in made.node if n.op_type == node.op_type), made.node[-1])
        main.name, main.doc_string = node.name, node.doc_string
        del main.metadata_props[:]
        main.metadata_props.extend(node.metadata_props)
        for tensor in made.initializer:
            tensor.name = renamed.get(tensor.name, tensor.name)
        return list(made.node), list(made.initializer)


def _inner(made: onnx.GraphProto, here: set[str]) -> Iterator[str]:
    return (name for name in dict.fromkeys(names(made)) if name and name not in here)


def _same(a: onnx.NodeProto, b: onnx.NodeProto) -> bool:
    """Whether two nodes are of one operator, read and make the same and have the same attributes."""
    attributes = [sorted((t.name, t.SerializeToString(deterministic=True)) for t in n.attribute) for n in (a, b)]
    inputs = [[*n.input] for n in (a, b)]
    for names_ in inputs:
        while names_ and not names_[-1]:
            names_.pop()
    return a.op_type == b.op_type and attributes[0] == attributes[1] and inputs[0] == inputs[1]


def _value(name: str, known: Mapping[str, shapes.Known]) -> onnx.ValueInfoProto:
    """A tensor for a node that is converted alone; what it holds matters to no conversion, its rank may."""
    kind, dims = known.get(name, (onnx.TensorProto.FLOAT, None))
    return helper.make_tensor_value_info(name, kind, dims)


def _settle(function: onnx.FunctionProto, target: int) -> None:
    """Sets a function's operator set to the model's new one where none of its operators changes.

    Raises:
        ModelError: one does.
    """
    entry = next((o for o in function.opset_import if o.domain in STANDARD), None)
    if entry is None or entry.version >= target:
        return
    for node in function.node:
        if node.domain in STANDARD:
            since = [onnx.defs.get_schema(node.op_type, v).since_version for v in (entry.version, target)]
            if since[0] != since[1]:
                raise ModelError(
                    f"function {function.name!r} uses {node.op_type} of operator set {entry.version}, and the repair "
                    f"needs {target}: inline the functions (onnx.inliner) or export the model with opset {target}"
                )

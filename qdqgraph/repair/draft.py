"""`Draft`: a working copy of a model, on which one round of proposals is carried out.

`carry_out` edits the draft; `finish` returns the new model, which the next round scans. A draft records no plan: the
plan is computed at the end, as the net difference between the first and the last model. The order of the file is kept:
a new pair follows the producer of its tensor, and only nodes that would precede one of their producers move.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from itertools import chain

import numpy as np
import onnx
from onnx import helper

from ..errors import ModelError, RuleError
from ..graph.constants import constants
from ..graph.graph import Graph
from ..model.protos import fresh, key, reads, refill, version
from ..model.writing.spill import tensor_of, value_of
from ..proposals.proposal import Graft, NodeInput
from .order import ordered
from .reals import HALF_SCALES, Reals, type_name

SWEPT = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Constant", "Identity", "Cast"})
"""Operators that are removed when a proposal removes their last consumer, in addition to those that compute constants,
and those that a `Graft` names."""


def distinct(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model without duplicate initializers; the model itself if there are none.

    Raises:
        ModelError: two initializers of one name differ.
    """
    first: dict[str, onnx.TensorProto] = {}
    for tensor in model.graph.initializer:
        if tensor.name in first and first[tensor.name] != tensor:
            raise ModelError(f"the file has two initializers named '{tensor.name}' with different values")
        first[tensor.name] = tensor
    if len(first) == len(model.graph.initializer):
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    del new.graph.initializer[:]
    new.graph.initializer.extend(first.values())
    return new


class Draft:
    """An editable copy of a model; `finish` returns the new model.

    Edits name tensors as the `Graph` does, which leaves out Casts between floating-point types. A node input reads the
    tensor in the type that it read before: through an existing Cast if there is one, else through a new one.

    Args:
        model: the model; it is not modified.
        graph: its graph; None for a draft that changes metadata only. Its nodes that compute constants are removed when
            a proposal removes their last consumer.
    """

    def __init__(self, model: onnx.ModelProto, graph: Graph | None = None) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        file = self._model.graph
        self._nodes = list(file.node)
        self._of: dict[str, onnx.NodeProto] = {name: n for n in self._nodes for name in n.output[:] if name}
        self._after: dict[str, list[onnx.NodeProto]] = {}
        self._reads = Counter(chain(chain.from_iterable(map(reads, self._nodes)), (o.name for o in file.output)))
        self._inputs = {i.name for i in file.input}
        self._names = {*self._of, *self._inputs, *(i.name for i in file.initializer), *self._reads}
        self._node_names = {n.name for n in (self._nodes if graph is None else graph.gs.nodes)}
        self._lost: list[str] = []
        self._replacements: dict[int, list[onnx.NodeProto]] = {}
        self._removable = set() if graph is None else {id(self._of[name]) for name in constants(graph).nodes}
        self._retyped: set[str] = set()
        self._reals = Reals(graph)
        self._entries = {entry.key: entry for entry in reversed(self._model.metadata_props)}

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {id(n): i for i, n in enumerate(self._nodes)}

    def as_read(self, reader: NodeInput, tensor: str) -> str:
        """Returns the name of a tensor in the type that a node input reads now."""
        return self._typed(tensor, self._reals.kind(self._of[reader[0]].input[reader[1]]))

    def scale_for(self, tensor: str, scale: str, usual: Collection[str]) -> str:
        """Returns the name of a scale for a new pair on a tensor: in the tensor's type if that is among the `usual`
        types of scales, or if there are none and the opset has such scales, else as it is."""
        kind = self._reals.kind(tensor)
        fits = type_name(kind) in usual if kind and usual else version(self._model) >= HALF_SCALES
        if not kind or not fits:
            return scale
        self._lost.append(scale)  # of a constant that only this pair asked for, the typed one is enough
        return self._typed(scale, kind)

    def _typed(self, tensor: str, kind: int | None) -> str:
        """Returns the name of a tensor in a floating-point type; adds a Cast, or a constant, if there is none."""
        if (name := self._reals.named(tensor, kind)) is not None:
            return name
        assert kind is not None
        made = fresh(f"{tensor}_{type_name(kind)}", self._names)
        if (array := self._reals.constant(tensor, kind)) is not None:
            self._store(made, array)
        else:
            cast = self._cast(tensor, made, kind)
            self._of[made] = cast
            self._reads.update(cast.input)
            producer = self._of.get(tensor)
            placed = producer is not None and id(producer) in self._positions
            self._after.setdefault(key(producer) if producer is not None and placed else "", []).append(cast)
        self._reals.add(made, kind, of=tensor)
        return made

    def set_input(self, reader: NodeInput, tensor: str) -> None:
        """Connects a node input to another tensor, in the floating-point type that it reads now.

        Raises:
            RuleError: the node has no such input; a tensor captured by a subgraph is not an input.
        """
        node, index = self._of[reader[0]], reader[1]
        if not 0 <= index < len(node.input):
            raise RuleError(f"a rule rewires input {index} of '{reader[0]}' ({node.op_type}), which it does not have")
        self._connect(node, index, self._typed(tensor, self._reals.kind(node.input[index])))

    def set_type(self, reader: NodeInput, kind: int) -> None:
        """Lets a node input read its tensor in another floating-point type; a DequantizeLinear produces the type of its
        scale."""
        node, index = self._of[reader[0]], reader[1]
        self._connect(node, index, self._typed(node.input[index], kind))
        if node.op_type == "DequantizeLinear":
            self._retyped.update(node.output)
            self._reals.add(node.output[0], kind)

    def _connect(self, node: onnx.NodeProto, index: int, tensor: str) -> None:
        old = node.input[index]
        if old == tensor:
            return
        node.input[index] = tensor
        self._reads[tensor] += 1
        if old:
            self._reads[old] -= 1
            self._lost.append(old)

    def set_parameters(self, node_key: str, scale: str, zero_point: str, axis: int | None) -> None:
        """Sets the scale, zero-point and axis of a QuantizeLinear or DequantizeLinear; its type follows from them.

        Args:
            node_key: the node.
            scale: name of the scale tensor.
            zero_point: name of the zero-point tensor.
            axis: the axis of per-channel scales, None for a scalar scale.
        """
        node = self._of[node_key]
        while len(node.input) < 3:
            node.input.append("")
        self._connect(node, 1, scale)
        self._connect(node, 2, zero_point)
        replaced = ("axis", "output_dtype") if node.op_type == "QuantizeLinear" else ("axis",)
        kept = [a for a in node.attribute if a.name not in replaced]
        del node.attribute[:]
        node.attribute.extend(kept if axis is None else [*kept, helper.make_attribute("axis", axis)])
        self._retyped.update(node.output)

    def add_constant(self, name: str, array: np.ndarray) -> str:
        """Adds an initializer; returns its name, which is unique in the model.

        Before IR version 4 every initializer must also be a graph input, so a Constant node at the start of the graph
        is added instead.
        """
        self._store(name := fresh(name, self._names), np.asarray(array))
        return name

    def _store(self, name: str, array: np.ndarray) -> None:
        tensor = tensor_of(array, name)
        self._reals.add(name, tensor.data_type, array=array)
        if self._model.ir_version < 4:
            tensor.ClearField("name")
            node = helper.make_node("Constant", [], [name], value=tensor)
            self._of[name] = node
            self._after.setdefault("", []).insert(0, node)
        else:
            self._model.graph.initializer.append(tensor)

    def add_pair(self, tensor: str, scale: str, zero_point: str, code: str) -> str:
        """Adds a QuantizeLinear and a DequantizeLinear after the tensor's producer; returns the latter's output."""
        integers = fresh(f"{tensor}_quantized", self._names)
        rounded = fresh(f"{tensor}_dequantized", self._names)
        kind = self._reals.kind(scale)
        producer = self._of.get(tensor)
        tensor = self._typed(tensor, kind)
        if kind is not None:
            self._reals.add(rounded, kind)
        quantize = self._node("QuantizeLinear", [tensor, scale, zero_point], integers)
        dequantize = self._node("DequantizeLinear", [integers, scale, zero_point], rounded)
        for node in (quantize, dequantize):
            entry = node.metadata_props.add()
            entry.key, entry.value = "qdqgraph.rule", code
            self._of[node.output[0]] = node
            self._reads.update(node.input)
        self._after.setdefault("" if producer is None else key(producer), []).extend((quantize, dequantize))
        return rounded

    def graft(self, edit: Graft, code: str) -> None:
        """Replaces nodes by new nodes; a Constant among these becomes an initializer."""
        names = {name: fresh(name, self._names) for name in edit.fresh}
        old = [self._of[k] for k in edit.replaced]
        new = [onnx.NodeProto.FromString(data) for data in edit.nodes]
        self._removable.update(id(self._of[k]) for k in edit.unread)
        for node in old:
            self._replacements[id(node)] = []
            self._reads.subtract(reads(node))
            self._lost.extend(reads(node))
            if node.op_type == "QuantizeLinear":
                self._retyped.update(node.output)
        kept: list[onnx.NodeProto] = []
        names_read = self._reals.names_read(old)
        for place, node in enumerate(new):
            for index, name in enumerate(node.input):
                node.input[index] = names.get(name) or names_read.get(name, name)
            for index, name in enumerate(node.output):
                node.output[index] = names.get(name, name)
            if self._as_initializer(node):
                self._of.pop(node.output[0], None)
                continue
            kept += self._in_types(node)
            if place in edit.new:
                node.name = fresh(key(node), self._node_names)
                node.metadata_props.add(key="qdqgraph.rule", value=code)
        for node in kept:
            self._of.update((name, node) for name in node.output if name)
            self._reads.update(reads(node))
        if not old:
            self._after.setdefault("", []).extend(kept)  # `finish` moves them after their producers
        else:
            self._replacements[id(max(old, key=lambda n: self._positions[id(n)]))] = kept
        for rewire in edit.rewires:
            self.set_input(rewire.reader, names.get(rewire.tensor, rewire.tensor))

    def _in_types(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Yields a new node with inputs of types that fit each other, and a Cast after it for each output that other
        nodes read in another type."""
        for index, kind in self._reals.wanted(node, self._of.get(key(node))):
            node.input[index] = self._typed(node.input[index], kind)
        casts = []
        made = self._reals.made(node)
        for index, name in enumerate(node.output):
            if name not in made:
                continue
            kind, before = made[name], self._reals.kind(name)
            if before is not None and before != kind:
                node.output[index] = fresh(f"{name}_{type_name(kind)}", self._names)
                casts.append(self._cast(node.output[index], name, before))
            self._reals.add(node.output[index], kind)
        yield node
        yield from casts

    def _as_initializer(self, node: onnx.NodeProto) -> bool:
        """Stores a Constant as an initializer, as TensorRT requires for scales; returns False for other nodes."""
        if node.op_type != "Constant" or node.domain or self._model.ir_version < 4:
            return False
        for attribute in node.attribute:
            if attribute.name == "value":
                tensor = self._model.graph.initializer.add()
                tensor.CopyFrom(attribute.t)
                tensor.name = node.output[0]
                self._reals.add(tensor.name, tensor.data_type, array=value_of(tensor))
                return True
        return False

    def set_metadata(self, key: str, value: str) -> None:
        """Adds or changes a metadata entry of the model."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = self._model.metadata_props.add(key=key)
        entry.value = value

    def finish(self) -> onnx.ModelProto:
        """Returns the new model, without newly unused Q, DQ and constants, and with nodes in topological order."""
        gone = self._sweep()
        for table in (self._of, self._reads, self._names, self._node_names):
            table.clear()  # to order the nodes takes as much memory
        refill(self._model.graph.node, ordered([n for n in self._placed() if id(n) not in gone]))
        self._forget_types()
        return self._model

    def _forget_types(self) -> None:
        """Removes the value_info of tensors whose type may have changed."""
        declared = self._model.graph.value_info
        kept = [v for v in declared if v.name not in self._retyped]
        if len(kept) < len(declared):
            refill(declared, kept)

    def _placed(self) -> Iterator[onnx.NodeProto]:
        yield from self._after.get("", ())
        for node in self._nodes:
            yield from self._replacements.get(id(node), (node,))
            if name := key(node):
                yield from self._after.get(name, ())

    def _node(self, op: str, inputs: list[str], output: str) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [output], name=fresh(output, self._node_names))

    def _cast(self, tensor: str, made: str, kind: int) -> onnx.NodeProto:
        node = self._node("Cast", [tensor], made)
        node.attribute.append(helper.make_attribute("to", kind))
        return node

    def _sweep(self) -> set[int]:
        """Removes nodes and initializers that lost their last consumer in this draft; returns the ids of the nodes.

        What had no consumer before stays.
        """
        gone: set[int] = set()
        dead: set[str] = set()
        pending = self._lost
        while pending:
            tensor = pending.pop()
            if self._reads[tensor] > 0:
                continue
            node = self._of.get(tensor)
            if node is None:
                if tensor not in self._inputs:
                    dead.add(tensor)
                continue
            if id(node) in self._replacements:
                continue  # `graft` has counted what it no longer reads
            sweepable = node.op_type in SWEPT or id(node) in self._removable
            if id(node) not in gone and sweepable and not any(self._reads[o] for o in node.output if o):
                gone.add(id(node))
                for name in node.input:
                    self._reads[name] -= 1
                    pending.append(name)
        if dead:
            refill(self._model.graph.initializer, [i for i in self._model.graph.initializer if i.name not in dead])
        return gone


def with_entries(model: onnx.ModelProto, entries: Mapping[str, str]) -> onnx.ModelProto:
    """Returns the model with these metadata entries; the model itself if there are none."""
    if not entries:
        return model
    draft = Draft(model)
    for name, value in entries.items():
        draft.set_metadata(name, value)
    return draft.finish()

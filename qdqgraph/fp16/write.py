"""Writes a model in the chosen types, with one shared Cast per tensor and direction, and no Cast at a pair.

A QuantizeLinear accepts the type of its input. A DequantizeLinear is written in the type that its consumers need, and
duplicated if they need both. Its scale sets the output type, so types change at a pair without a Cast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import ModelError
from ..model.inline.whole import resolved
from ..model.protos import fresh, names
from ..model.writing.spill import tensor_of
from .net import FLOAT, HALF, Net, filled
from .numbers import rounded_to_fp16
from .types import Slot, TypedName, Types

SUFFIX: Mapping[int, str] = {HALF: "_fp16", FLOAT: "_fp32"}


class Writer:
    """Builds the new model from a `Net` and its `Types`."""

    def __init__(self, net: Net, types: Types) -> None:
        self.net, self.types = net, types
        shown = {o for outputs in types.demands.values() for o in outputs}
        gone = {net.nodes[i].output[0] for i in net.casts} - shown
        self.taken = set(names(net.model.graph)) - gone
        self.casts = 0
        self.kinds: dict[str, int] = {}
        """Element types of tensors in the new model, by their new names."""
        self.constants: dict[str, onnx.TensorProto] = {}
        """Constants of the new model that differ from the old model, by name."""
        self._named: dict[TypedName, str] = {}
        self._scales: dict[tuple[str, int, bytes], str] = {}

    def model(self) -> onnx.ModelProto:
        """Returns the new model."""
        nodes = [n for name in self.net.inputs if self.net.is_real(name) for n in self._shown(name)]
        for position in range(len(self.net.nodes)):
            nodes += self._node(position)
        new = onnx.ModelProto()
        new.CopyFrom(self.net.model)
        del new.graph.node[:]
        new.graph.node.extend(nodes)
        old = {t.name for t in new.graph.initializer}
        for tensor in new.graph.initializer:
            if tensor.name in self.constants:
                self._replace(tensor)
        produced = {o for n in nodes for o in n.output}
        new.graph.initializer.extend(t for n, t in self.constants.items() if n not in old and n not in produced)
        for info in (*new.graph.input, *new.graph.output, *new.graph.value_info):
            if info.name in self.kinds:
                info.type.tensor_type.elem_type = self.kinds[info.name]
        return new

    def _replace(self, tensor: onnx.TensorProto) -> None:
        """Replaces the data of an initializer; its doc string and metadata stay."""
        new = onnx.TensorProto()
        new.CopyFrom(self.constants[tensor.name])
        if tensor.HasField("doc_string"):
            new.doc_string = tensor.doc_string
        new.metadata_props.extend(tensor.metadata_props)
        tensor.CopyFrom(new)

    def _node(self, position: int) -> Iterator[onnx.NodeProto]:
        """Yields the node in its new types, followed by the Casts of its outputs."""
        net, node = self.net, onnx.NodeProto()
        if position in net.casts:
            return
        node.CopyFrom(net.nodes[position])
        if node.op_type == "Constant":
            if node.output[0] in self._constants_in_place:
                self._constant(node)
            yield node
            return
        if position in net.scales:
            yield from self._pair_node(position, node)
            return
        for index, name in enumerate(node.input):
            if name and net.is_real(name):
                node.input[index] = self._read((position, index))
        outputs = [name for name in node.output if name and net.is_real(name)]
        for index, name in enumerate(node.output):
            if name in outputs:
                node.output[index] = self._name((name, self.types.native[name]))
        if node.op_type == "Cast" and outputs:
            _set(node, "to", self.types.native[outputs[0]])
        if node.op_type == "ConstantOfShape" and outputs:
            kind = helper.tensor_dtype_to_np_dtype(self.types.native[outputs[0]])
            value = numpy_helper.from_array(filled(node).astype(kind), "value")
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("value", value))
        yield node
        for name in outputs:
            yield from self._shown(name)

    def _pair_node(self, position: int, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Yields a QuantizeLinear in the type of its input, or a DequantizeLinear in each type that is needed."""
        net, held = self.net, self.net.scales[position]
        if node.op_type == "QuantizeLinear":
            source = net.source(node.input[0])
            if source not in net.types:  # the output of a call or of a custom operator: nobody knows its type
                node.input[1] = self._scale(position, net.types[node.input[1]])
                yield node
                return
            want = self.types.wants.get((position, 0), self.types.native.get(source, FLOAT))
            node.input[0] = self._name((source, want))
            node.input[1] = self._scale(position, want)
            yield node
            return
        name = node.output[0]
        native = self.types.native.get(name)
        if native is None:  # the file declares another type than FP32 and FP16 for it
            node.input[1] = self._scale(position, net.types[node.input[1]])
            yield node
            return
        wanted = self._wanted(name) if held.half is not None else set[int]()
        kinds = [native] if native in wanted or not wanted else []
        kinds += [k for k in sorted(wanted) if k != native]
        for kind in kinds:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[1] = self._scale(position, kind)
            copy.output[0] = self._name((name, kind))
            if kind != native and copy.name:
                copy.name += SUFFIX[kind]
            self._set_output_type(copy, kind)
            yield copy
        yield from self._shown(name, produced=kinds)

    def _set_output_type(self, dequantize: onnx.NodeProto, kind: int) -> None:
        """Sets the attribute of a DequantizeLinear that names its type; removes it where its scale has that type.

        ONNX Runtime refuses it beside FP16 scales of a type that it dequantizes in FP32 only, as FP8 (measured on
        1.32.0).
        """
        scale = dequantize.input[1]
        if self.kinds.get(scale, self.net.types.get(scale)) != kind:
            _set(dequantize, "output_dtype", kind)
            return
        kept = [a for a in dequantize.attribute if a.name != "output_dtype"]
        del dequantize.attribute[:]
        dequantize.attribute.extend(kept)

    def _wanted(self, name: str) -> set[int]:
        """Returns the types in which a tensor is consumed."""
        slots = self.net.readers.get(name, [])
        return {k for s in slots if (k := self.types.wants.get(s))} | {k for n, k in self.types.demands if n == name}

    def _shown(self, name: str, produced: list[int] | None = None) -> Iterator[onnx.NodeProto]:
        """Yields the Casts of a tensor to the types other than its own, and an Identity per additional name."""
        native = self.types.native[name]
        produced = produced or [native]
        for kind in sorted({*produced, *self._wanted(name)}):
            here = self._name((name, kind))
            if kind not in produced:
                self.casts += 1
                cast = fresh(f"{here}_cast", self.taken)
                yield helper.make_node("Cast", [self._name((name, native))], [here], cast, to=kind)
            for other in self.types.demands.get((name, kind), ()):
                if other != here:
                    self.kinds[other] = kind
                    yield helper.make_node("Identity", [here], [other], fresh(f"{other}_identity", self.taken))

    def _read(self, slot: Slot) -> str:
        """Returns the tensor name of a node input in the new model."""
        source = self.net.source(self.net.nodes[slot[0]].input[slot[1]])
        kind = self.types.wants.get(slot) or self.types.native.get(source)
        return self._name((source, kind or self.net.types[source]))

    def _name(self, tensor: TypedName) -> str:
        """Returns the name of a tensor in one type; its original name if possible."""
        if tensor not in self._named:
            name, kind = tensor
            if name not in self.types.native:
                self._named[tensor] = self._constant_name(name, kind)
            else:
                demanded = self.types.demands.get(tensor, ())
                elsewhere = any(name in d for m, d in self.types.demands.items() if m != tensor)
                first = kind == self.types.native[name]
                if name in demanded or (first and (name in self.net.inputs or not (demanded or elsewhere))):
                    self._named[tensor] = name
                else:
                    self._named[tensor] = demanded[0] if demanded else fresh(name + SUFFIX[kind], self.taken)
            self.kinds[self._named[tensor]] = kind
        return self._named[tensor]

    @cached_property
    def _constants_in_place(self) -> Mapping[str, int]:
        """Constants that all consumers need in one type other than the current one, with that type."""
        shown = {self.net.source(n) for n in (*self.net.captured, *self.net.outputs)} | self.net.captured
        wanted: dict[str, set[int]] = {}
        for (position, index), kind in self.types.wants.items():
            source = self.net.source(self.net.nodes[position].input[index])
            if self.net.is_constant(source):
                wanted.setdefault(source, set()).add(kind)
        for name in self._scale_names:
            wanted.pop(name, None)
        return {n: k.pop() for n, k in wanted.items() if len(k) == 1 and k != {self.net.types[n]} and n not in shown}

    @cached_property
    def _scale_names(self) -> frozenset[str]:
        """Names of constants used as scales; scales are written by value, not by name."""
        found = (self.net.nodes[i].input[1] for i, s in self.net.scales.items() if s.half is not None)
        return frozenset(name for name in found if self.net.is_constant(name))

    def _constant_name(self, name: str, kind: int) -> str:
        if kind == self.net.types[name]:
            return name
        here = name if name in self._constants_in_place else fresh(name + SUFFIX[kind], self.taken)
        value = self.net.value(name)
        if value is None:
            raise ModelError(f"constant {name!r} cannot be read; its external data are missing or damaged")
        array = rounded_to_fp16(value) if kind == HALF else value.astype(np.float32)
        self.constants[here] = tensor_of(array, here)
        return here

    def _constant(self, node: onnx.NodeProto) -> None:
        """Replaces the value of a Constant by its value in the new type."""
        name = node.output[0]
        self._name((name, self._constants_in_place[name]))
        tensor = resolved(self.constants[name])  # only initializers are references
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("value", tensor))

    def _scale(self, position: int, kind: int) -> str:
        """Returns the name of a pair's scale in one type; both types have the same value, equal scales one constant."""
        net, held, name = self.net, self.net.scales[position], self.net.nodes[position].input[1]
        if held.exact is None or (held.half is None and net.is_constant(net.source(name))):
            return self._name((net.source(name), net.types[name]))
        if held.half is None:
            kind, array = net.types[name], held.exact
        else:
            array = held.half if kind == HALF else held.half.astype(np.float32)
        key = (name, kind, array.tobytes())
        if key not in self._scales:
            first = not any(k[0] == name for k in self._scales) and self._is_scale_alone(name)
            here = name if first else fresh(name + SUFFIX[kind], self.taken)
            self._scales[key] = here
            self.kinds[here] = kind
            self.constants[here] = tensor_of(array, here)
        return self._scales[key]

    def _is_scale_alone(self, name: str) -> bool:
        """Returns whether only pairs with an FP16 scale consume an initializer, so that its type can change."""
        net = self.net
        shown = name not in net.initializers or name in net.captured or name in net.outputs
        scales = (net.scales.get(i) if j == 1 else None for i, j in net.readers[name])
        return not shown and all(s is not None and s.half is not None for s in scales)


def _set(node: onnx.NodeProto, name: str, value: int) -> None:
    for attribute in node.attribute:
        if attribute.name == name:
            attribute.i = value

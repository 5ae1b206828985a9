"""`Net`: an indexed view of a model for type selection. It resolves Casts and lists what may become FP16 per node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..graph.graph import Graph
from ..model.protos import STANDARD, element_types, subgraphs, version
from .numbers import Scale, fault, scale

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
REAL = frozenset({FLOAT, HALF})
ON_HOST = {("Resize", 1)}
"""Inputs that TensorRT reads on the host, although ONNX allows FP16 there: the roi of Resize."""


@dataclass(frozen=True)
class TypeSlots:
    """The inputs and outputs of a node that may become FP16.

    Attributes:
        inputs: indexes of the inputs whose type follows the node's type.
        outputs: indexes of the outputs whose type follows the node's type.
        fixed: indexes of the floating-point inputs whose type ONNX fixes.
        fault: why the node cannot be FP16 at all; "" if it can, or if it has no floating-point tensor.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    fixed: tuple[int, ...] = ()
    fault: str = ""

    @property
    def follows(self) -> bool:
        """Whether the node accepts either type: one such input, no such output (Shape, ArgMax, Cast to integers)."""
        return len(self.inputs) == 1 and not self.outputs and not self.fault


class Net:
    """An indexed view of a model: nodes by position, tensors by name; Casts between FP32 and FP16 are resolved."""

    def __init__(self, model: onnx.ModelProto, folder: Path | None) -> None:
        self.model, self.graph = model, Graph(model, folder)
        self.nodes = tuple(model.graph.node)
        self.opset = version(model)
        self.types = element_types(model)
        self.captured = frozenset(name for name, _ in self.graph.captures)
        self.outputs = tuple(o.name for o in model.graph.output)
        self.initializers = {t.name: t for t in model.graph.initializer}
        self.inputs = tuple(i.name for i in model.graph.input if i.name not in self.initializers)
        self._sources: dict[str, str] = {}
        self.casts: set[int] = set()
        """Positions of the Casts between FP32 and FP16: input and output are one tensor in two types."""
        for position, node in enumerate(self.nodes):
            if self._is_cast(node):
                self.casts.add(position)
                self._sources[node.output[0]] = self.source(node.input[0])
        self.slots = tuple(TypeSlots() if i in self.casts else self._slots(n) for i, n in enumerate(self.nodes))

    def source(self, name: str) -> str:
        """Returns the tensor from which `name` is derived by Casts between FP32 and FP16; `name` itself if none."""
        return self._sources.get(name, name)

    def is_real(self, name: str) -> bool:
        """Returns whether the tensor is FP32 or FP16."""
        return self.types.get(name) in REAL

    @cached_property
    def producers(self) -> dict[str, int]:
        """The position of each tensor's producer, by tensor name."""
        return {name: i for i, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def readers(self) -> dict[str, list[tuple[int, int]]]:
        """The consumers of each tensor as (node position, input index), with Casts resolved."""
        found: dict[str, list[tuple[int, int]]] = {}
        for position, node in enumerate(self.nodes):
            if position not in self.casts:
                for index, name in enumerate(node.input):
                    if name:
                        found.setdefault(self.source(name), []).append((position, index))
        return found

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Returns the producer of a tensor with Casts resolved, or None."""
        position = self.producers.get(self.source(name))
        return None if position is None else self.nodes[position]

    def data(self, position: int) -> Iterator[tuple[int, str]]:
        """Yields index and source of the non-constant inputs whose type follows the node's type."""
        node = self.nodes[position]
        for index in self.slots[position].inputs:
            if not self.is_constant(name := self.source(node.input[index])):
                yield index, name

    def is_constant(self, name: str) -> bool:
        """Returns whether a tensor is an initializer or the output of a Constant."""
        if name in self.initializers:
            return True
        node = self.producer(name)
        return node is not None and node.op_type == "Constant" and node.domain in STANDARD

    def value(self, name: str) -> np.ndarray | None:
        """Returns the value of an initializer or Constant; None for other tensors, or if the data cannot be read."""
        return self.graph.value(name) if self.is_constant(name) else None

    @cached_property
    def scales(self) -> Mapping[int, Scale]:
        """The scale of each QuantizeLinear and DequantizeLinear, by node position."""
        found = {}
        for position, node in enumerate(self.nodes):
            if is_pair_node(node) and self.is_real(node.input[1]):
                value = self.graph.value(node.input[1])
                found[position] = scale(value, self._idle(node, value))
        return found

    def _idle(self, node: onnx.NodeProto, value: np.ndarray | None) -> np.ndarray | None:
        """Returns a mask of the channels of a constant's DequantizeLinear that contain only zeros; None if unknown."""
        if node.op_type != "DequantizeLinear" or value is None or value.ndim > 1 or _attribute(node, "block_size"):
            return None
        if not np.any(value < 2.0**-14) or not self.graph.is_constant(node.input[0]):
            return None
        integers = self.graph.value(node.input[0])
        zero = self.graph.value(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros((), np.int8)
        if integers is None or zero is None or zero.any():
            return None
        if value.size == 1:
            return np.full(value.shape, not integers.any())
        axis = _attribute(node, "axis", 1)
        if not -integers.ndim <= axis < integers.ndim or integers.shape[axis] != value.size:
            return None
        others = tuple(i for i in range(integers.ndim) if i != axis % integers.ndim)
        return ~np.any(integers != 0, axis=others)

    def _is_cast(self, node: onnx.NodeProto) -> bool:
        standard = node.op_type == "Cast" and node.domain in STANDARD
        return (
            standard
            and self.is_real(node.input[0])
            and self.is_real(node.output[0])
            and node.output[0] not in self.captured
        )

    def _slots(self, node: onnx.NodeProto) -> TypeSlots:
        """Returns which of a node's floating-point tensors the operator's schema allows in FP16."""
        real_in = [i for i, name in enumerate(node.input) if name and self.is_real(name)]
        real_out = [i for i, name in enumerate(node.output) if name and self.is_real(name)]
        if node.domain not in STANDARD:
            return TypeSlots(fault=f"the FP16 support of operators of domain {node.domain!r} is unknown")
        if any(True for _ in subgraphs(node)):
            return TypeSlots(fault="its subgraphs stay FP32")
        if any(name and name not in self.types for name in (*node.input, *node.output)):
            return TypeSlots(fault="the types of its tensors are unknown")
        if not real_in and not real_out:
            return TypeSlots()
        if is_pair_node(node):
            return TypeSlots(inputs=(0,)) if node.op_type == "QuantizeLinear" else TypeSlots(outputs=(0,))
        if node.op_type == "Cast" and real_in and real_out:
            return TypeSlots(inputs=tuple(real_in))  # a subgraph reads its output: that type is fixed
        if node.op_type == "ConstantOfShape":
            unfit = fault(filled(node))
            return TypeSlots(fault="FP16 cannot represent its value") if unfit else TypeSlots(outputs=(0,))
        if node.op_type in ("Constant", "Cast"):
            return TypeSlots(inputs=tuple(real_in), outputs=tuple(real_out))
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset)
        except onnx.defs.SchemaError:
            return TypeSlots(fault="ONNX does not define the operator")
        return _by_schema(node, schema, real_in, real_out)


def filled(node: onnx.NodeProto) -> np.ndarray:
    """Returns the fill value of a ConstantOfShape as a one-element float32 array; 0 if it has no `value`."""
    found = [numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"]
    return np.asarray(found[0], np.float32) if found else np.zeros(1, np.float32)


def _by_schema(node: onnx.NodeProto, schema: onnx.defs.OpSchema, real_in: list[int], real_out: list[int]) -> TypeSlots:
    if any(not any(t.startswith("tensor") for t in v.types) for v in (*schema.inputs, *schema.outputs)):
        return TypeSlots(fault="it handles sequences")
    formals = [schema.inputs[min(i, len(schema.inputs) - 1)] for i in real_in]
    free = {
        i: f.type_str
        for i, f in zip(real_in, formals, strict=True)
        if "tensor(float16)" in f.types and f.type_str != "tensor(float)" and (node.op_type, i) not in ON_HOST
    }
    fixed = tuple(i for i in real_in if i not in free)
    if fixed and not free:
        return TypeSlots(fixed=fixed, fault="ONNX does not define it for FP16")
    bound, held = set(free.values()), {f.type_str for i, f in zip(real_in, formals, strict=True) if i in fixed}
    outputs = []
    for index in real_out:
        kind = schema.outputs[min(index, len(schema.outputs) - 1)].type_str
        if kind in bound:
            outputs.append(index)
        elif kind in held or kind == "tensor(float)":
            return TypeSlots(fault="ONNX does not define it for FP16")
        else:
            return TypeSlots(fault="an attribute sets its output type")
    return TypeSlots(tuple(free), tuple(outputs), fixed)


def is_pair_node(node: onnx.NodeProto) -> bool:
    """Returns whether a node is a QuantizeLinear or DequantizeLinear of the standard domain."""
    return node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain in STANDARD


def _attribute(node: onnx.NodeProto, name: str, default: int = 0) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)

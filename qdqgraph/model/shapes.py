"""Shapes of all tensors, node by node in one pass, with onnx's own inference.

`onnx.shape_inference.infer_shapes` stops at shapes that the graph computes (Shape → Gather → Div → Slice, which the
TorchScript exporter writes for every `chunk`). Here the few
integers of such chains are computed on the way, so one pass in linear time covers the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from ..operators import PAIRS, SHAPED_AS_BOTH, SHAPED_AS_FIRST
from .dims import NO_SHAPES, Shapes, fitted

SMALL = 64
"""Constants of at most this many elements are passed to shape inference: shapes, axes, pads, sizes."""

Dims = tuple[int | None, ...]
Known = tuple[int, Dims]
"""Element type and dimensions."""
Inferred = tuple[onnx.TypeProto, Known | None]
"""A type as onnx infers it, and what is known of it."""


def infer(model: onnx.ModelProto, inputs: Shapes = NO_SHAPES) -> dict[str, tuple[int, Dims | None]]:
    """Element type and dimensions of every tensor whose type is known; None for an unknown dimension, or rank.

    Args:
        model: the model.
        inputs: the shapes of inputs, by name, in place of dynamic ones.

    Raises:
        ModelError: the model has no such input, or a shape contradicts its own.
    """
    return _Inference(model, fitted(model, inputs)).run()


class _Inference:
    def __init__(self, model: onnx.ModelProto, inputs: Shapes) -> None:
        self.model, graph = model, model.graph
        self.opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
        self.imports = list(model.opset_import)
        declared = ((i.name, _known(i.type)) for i in (*graph.value_info, *graph.output))
        self.declared = {name: known for name, known in declared if known is not None}
        self.types: dict[str, Known | onnx.TypeProto] = {i.name: _known(i.type) or i.type for i in graph.input}
        kinds = {i.name: i.type.tensor_type.elem_type for i in graph.input}
        self.types |= {name: (kinds[name], shape) for name, shape in inputs.items()}
        self.protos: dict[Known, onnx.TypeProto] = {}
        self.values: dict[str, np.ndarray | onnx.TensorProto] = {}
        """Small constants; a tensor becomes an array where one is needed, which most scales are not."""
        for tensor in graph.initializer:
            dims = tuple(tensor.dims)
            self.types[tensor.name] = (tensor.data_type, dims)
            if math.prod(dims) <= SMALL and not tensor.external_data:
                self.values[tensor.name] = tensor
        self.known: dict[object, list[Inferred | None]] = {}
        self.schemas: dict[tuple[str, str], onnx.defs.OpSchema | None] = {}

    def run(self) -> dict[str, tuple[int, Dims | None]]:
        for node in self.model.graph.node:
            if node.domain or not self._plain(node):
                self._node(node)
        found = {
            name: known if isinstance(known, tuple) else (known.tensor_type.elem_type, None)
            for name, known in self.types.items()
        }
        return {name: known for name, known in found.items() if known[0]}

    def _plain(self, node: onnx.NodeProto) -> bool:
        """Whether the result's type follows without onnx, as for most nodes of a Q/DQ graph; if so, records it."""
        operator = node.op_type
        if operator == "Constant":
            return self._constant(node)
        if operator in SHAPED_AS_FIRST:
            return self._like_input(node, operator, node.input[:])
        if operator in SHAPED_AS_BOTH and len(inputs := node.input[:]) == 2:
            known, other = (self.types.get(name) for name in inputs)
            alike = isinstance(known, tuple) and known == other and None not in known[1]
            return alike and inputs[0] not in self.values and self._like_input(node, operator, inputs)
        return False

    def _constant(self, node: onnx.NodeProto) -> bool:
        """Records the type of a Constant from its tensor, and its value if that is small."""
        tensor = next((a.t for a in node.attribute[:] if a.name == "value"), None)
        if tensor is None:
            return False
        name, dims = node.output[0], tuple(tensor.dims[:])
        self.types[name] = (tensor.data_type, dims)
        if math.prod(dims) <= SMALL and not tensor.external_data:
            self.values[name] = tensor
        return True

    def _value(self, name: str) -> np.ndarray:
        value = self.values[name]
        if isinstance(value, onnx.TensorProto):
            value = self.values[name] = numpy_helper.to_array(value)
        return value

    def _like_input(self, node: onnx.NodeProto, operator: str, inputs: Sequence[str]) -> bool:
        """Records the type of the first input for the result; for Q and DQ, with the element type of a parameter."""
        name, made = inputs[0], node.output[:]
        known = self.types.get(name)
        if not isinstance(known, tuple) or name in self.values or len(made) != 1 or made[0] in self.declared:
            return False  # the file may declare more
        if operator in PAIRS:
            slot = 2 if operator == "QuantizeLinear" else 1
            parameter = self.types.get(inputs[slot]) if len(inputs) > slot else None
            if not isinstance(parameter, tuple) or any(a.name == "output_dtype" for a in node.attribute[:]):
                return False
            known = (parameter[0], known[1])
        self.types[made[0]] = known
        return True

    def _proto(self, name: str) -> onnx.TypeProto:
        known = self.types[name]
        if not isinstance(known, tuple):
            return known
        if known not in self.protos:
            self.protos[known] = helper.make_tensor_type_proto(known[0], list(known[1]))
        return self.protos[known]

    def _node(self, node: onnx.NodeProto) -> None:
        schema = self._schema(node)
        made: dict[str, Inferred] = {}
        if schema is not None and all(not name or name in self.types for name in node.input[:]):
            made = self._inferred(schema, node)
            self._fold(node)
        for name in node.output[:]:
            declared = self.declared.get(name)
            kind, inferred = made.get(name, (None, None))
            best = declared if inferred is None or None in inferred[1] else inferred
            if found := best or inferred or kind:
                self.types[name] = found

    def _inferred(self, schema: onnx.defs.OpSchema, node: onnx.NodeProto) -> dict[str, Inferred]:
        """The types that onnx infers for one node; once for all equal nodes, because networks repeat their blocks."""
        inputs, outputs = node.input[:], node.output[:]
        alike = (
            node.op_type,
            node.domain,
            len(outputs),
            b"".join(a.SerializeToString() for a in node.attribute[:]),
            tuple(self.types[n] if isinstance(self.types.get(n), tuple) else n for n in inputs),
            tuple(self._value(n).tobytes() if n in self.values else b"" for n in inputs),
        )
        if alike not in self.known:
            types = {name: self._proto(name) for name in inputs if name}
            data = {n: numpy_helper.from_array(self._value(n), n) for n in inputs if n in self.values}
            try:
                made = shape_inference.infer_node_outputs(
                    schema, node, types, data, opset_imports=self.imports, ir_version=self.model.ir_version
                )
            except Exception:  # noqa: BLE001 - onnx raises its own C++ exceptions on nodes it cannot infer
                made = {}
            kinds = (made.get(name) for name in outputs)
            self.known[alike] = [None if kind is None else (kind, _known(kind)) for kind in kinds]
        found = zip(outputs, self.known[alike], strict=True)
        return {name: kind for name, kind in found if kind is not None}

    def _schema(self, node: onnx.NodeProto) -> onnx.defs.OpSchema | None:
        where = (node.op_type, node.domain)
        if where not in self.schemas:
            version = self.opsets.get(node.domain or "ai.onnx", 0)
            try:
                self.schemas[where] = onnx.defs.get_schema(node.op_type, version, node.domain)
            except onnx.defs.SchemaError:
                self.schemas[where] = None
        subgraphs = any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute[:])
        return None if subgraphs else self.schemas[where]

    def _fold(self, node: onnx.NodeProto) -> None:
        """Computes the values of shape arithmetic."""
        if node.op_type == "Shape":
            known = self.types[node.input[0]]
            if isinstance(known, tuple) and None not in known[1] and not node.attribute:
                self.values[node.output[0]] = np.array(known[1], np.int64)
            return
        compute = FOLDS.get(node.op_type)
        if compute is None or len(node.output) != 1 or not all(n in self.values for n in node.input if n):
            return
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        try:
            with np.errstate(all="raise"):  # what divides by zero or overflows is no shape
                value = compute([self._value(n) for n in node.input if n], attributes)
        except (ArithmeticError, IndexError, KeyError, TypeError, ValueError):
            return
        if value.size <= SMALL and value.dtype.kind in "ib":
            self.values[node.output[0]] = value


Fold = Callable[[Sequence[np.ndarray], dict[str, Any]], np.ndarray]


def _axes(inputs: Sequence[np.ndarray], attributes: dict[str, Any]) -> tuple[int, ...]:
    axes = inputs[1].reshape(-1) if len(inputs) > 1 else attributes.get("axes", [])
    return tuple(int(a) for a in axes)


def _slice(inputs: Sequence[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    starts, ends = inputs[1].tolist(), inputs[2].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 else list(range(len(starts)))
    steps = inputs[4].tolist() if len(inputs) > 4 else [1] * len(starts)
    where: list[slice] = [slice(None)] * inputs[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = inputs[0].shape[axis]
        where[axis] = slice(start, None if step < 0 and end < -size else end, step)
    return inputs[0][tuple(where)]


def _fill(inputs: Sequence[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    value = numpy_helper.to_array(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
    if int(np.prod(inputs[0])) > SMALL:
        raise ValueError("too large for a shape")
    return np.full(inputs[0].tolist(), value.reshape(-1)[0])


def _divide(inputs: Sequence[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    return np.asarray(np.trunc(inputs[0] / inputs[1])).astype(inputs[0].dtype)


FOLDS: dict[str, Fold] = {
    "Add": lambda x, a: x[0] + x[1],
    "Sub": lambda x, a: x[0] - x[1],
    "Mul": lambda x, a: x[0] * x[1],
    "Div": _divide,
    "Cast": lambda x, a: x[0].astype(helper.tensor_dtype_to_np_dtype(a["to"])),
    "Concat": lambda x, a: np.concatenate(list(x), axis=a["axis"]),
    "Gather": lambda x, a: np.take(x[0], x[1], axis=a.get("axis", 0)),
    "Squeeze": lambda x, a: np.squeeze(x[0], axis=_axes(x, a) or None),
    "Unsqueeze": lambda x, a: np.expand_dims(x[0], _axes(x, a)),
    "Slice": _slice,
    "ConstantOfShape": _fill,
    "Reshape": lambda x, a: x[0].reshape(x[1].tolist()),
    "Transpose": lambda x, a: np.transpose(x[0], a.get("perm")),
    "Identity": lambda x, a: x[0],
}
"""Operators of shape arithmetic on integers; results of other operators remain unknown."""


def _known(kind: onnx.TypeProto) -> Known | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    # Paddle writes a dynamic dimension as -1.
    sizes = (d.dim_value if d.HasField("dim_value") else -1 for d in kind.tensor_type.shape.dim)
    dims = tuple(None if size < 0 else size for size in sizes)
    return kind.tensor_type.elem_type, dims

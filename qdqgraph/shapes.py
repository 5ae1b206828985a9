"""Shapes of all tensors, node by node in one pass, through onnx's own inference.

`onnx.shape_inference.infer_shapes` stops at shapes that the graph computes (Shape → Gather → Div → Slice, which the
TorchScript exporter writes for every `chunk`). Here the few integers of such chains are computed on the way, so that
one pass in linear time reaches the end of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

SMALL = 64
"""Constants of at most this many elements are passed to shape inference: shapes, axes, pads, sizes."""

Dims = tuple[int | None, ...]


def infer(model: onnx.ModelProto) -> dict[str, tuple[int, Dims]]:
    """Element type and dimensions of every tensor whose rank is known; None for an unknown dimension."""
    return _Inference(model).run()


class _Inference:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, graph = model, model.graph
        self.opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
        self.imports = list(model.opset_import)
        self.declared = {i.name: i.type for i in (*graph.value_info, *graph.output) if _dims(i.type) is not None}
        self.types: dict[str, onnx.TypeProto] = {i.name: i.type for i in graph.input}
        self.values: dict[str, np.ndarray] = {}
        for tensor in graph.initializer:
            self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            if int(np.prod(tensor.dims)) <= SMALL and not tensor.external_data:
                self.values[tensor.name] = numpy_helper.to_array(tensor)
        self.schemas: dict[tuple[str, str], onnx.defs.OpSchema | None] = {}

    def run(self) -> dict[str, tuple[int, Dims]]:
        for node in self.model.graph.node:
            self._node(node)
        found = ((name, kind, _dims(kind)) for name, kind in self.types.items())
        return {name: (kind.tensor_type.elem_type, dims) for name, kind, dims in found if dims is not None}

    def _node(self, node: onnx.NodeProto) -> None:
        schema = self._schema(node)
        made: dict[str, onnx.TypeProto] = {}
        if schema is not None and all(not name or name in self.types for name in node.input):
            types = {name: self.types[name] for name in node.input if name}
            data = {n: numpy_helper.from_array(self.values[n], n) for n in node.input if n in self.values}
            try:
                made = shape_inference.infer_node_outputs(
                    schema, node, types, data, opset_imports=self.imports, ir_version=self.model.ir_version
                )
            except Exception:  # noqa: BLE001 - onnx raises its own C++ exceptions on nodes it cannot infer
                made = {}
            self._fold(node)
        for name in node.output:
            declared, inferred = self.declared.get(name), made.get(name)
            best = declared if inferred is None or None in (_dims(inferred) or (None,)) else inferred
            if kind := best or inferred:
                self.types[name] = kind

    def _schema(self, node: onnx.NodeProto) -> onnx.defs.OpSchema | None:
        where = (node.op_type, node.domain)
        if where not in self.schemas:
            version = self.opsets.get(node.domain or "ai.onnx", 0)
            try:
                self.schemas[where] = onnx.defs.get_schema(node.op_type, version, node.domain)
            except onnx.defs.SchemaError:
                self.schemas[where] = None
        subgraphs = any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute)
        return None if subgraphs else self.schemas[where]

    def _fold(self, node: onnx.NodeProto) -> None:
        """Computes the small integers that shapes are made of."""
        if node.op_type == "Constant":
            for a in node.attribute:
                if a.name == "value" and int(np.prod(a.t.dims)) <= SMALL and not a.t.external_data:
                    self.values[node.output[0]] = numpy_helper.to_array(a.t)
            return
        if node.op_type == "Shape":
            dims = _dims(self.types[node.input[0]])
            if dims is not None and None not in dims and not node.attribute:
                self.values[node.output[0]] = np.array(dims, np.int64)
            return
        compute = FOLDS.get(node.op_type)
        if compute is None or len(node.output) != 1 or not all(n in self.values for n in node.input if n):
            return
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        try:
            value = compute([self.values[n] for n in node.input if n], attributes)
        except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
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
"""Operators of shape arithmetic on integers; the result of anything else stays unknown."""


def _dims(kind: onnx.TypeProto) -> Dims | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.tensor_type.shape.dim)

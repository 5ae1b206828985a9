"""Casts between floating-point types, which a `Graph` leaves out: one tensor in two types.

Half-precision models have such Casts around pairs: pytorch-quantization writes Cast (FP16 → FP32), Q, DQ, Cast (FP32 →
FP16), because Q and DQ accept FP16 only from opset 19. A Cast of a constant stays, because it changes the constant's
values; one after the DQ of a weight is left out.

Sources: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html and pytorch-quantization 2.1.3,
`pytorch_quantization.tensor_quant`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from ..model.protos import element_types, is_standard, version

REAL = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
"""Element types between which a Cast is left out."""
TYPES = frozenset({"to", "dtype", "output_dtype"})
"""Attributes that name the element type of an output: of Cast, of random operators, and of Q and DQ."""

SINCE = {"to": 1, "saturate": 19, "round_mode": 24}
"""The attributes of Cast, each with the opset that introduced it: https://onnx.ai/onnx/operators/onnx__Cast.html."""


def between_reals(
    model: onnx.ModelProto, nodes: Iterable[gs.Node], dtype: Callable[[str], int | None]
) -> dict[str, str]:
    """The outputs of the Casts between types of `REAL`, with the tensor that they convert, seen through such Casts.

    Not those of constants, nor those of tensors whose type is unknown.

    Args:
        model: the model.
        nodes: its nodes, in file order.
        dtype: the element type of a tensor as far as it is known.
    """
    nodes = tuple(nodes)
    opset = version(model)
    casts = [n for n in nodes if _to_real(n, opset)]
    if not casts:
        return {}
    types = {str(n.inputs[0].name): dtype(n.inputs[0].name) for n in casts}
    if None in types.values():
        types = {**element_types(model), **{name: kind for name, kind in types.items() if kind is not None}}
    constants = _constants(model, nodes)
    found: dict[str, str] = {}
    for node in casts:
        read, made = str(node.inputs[0].name), str(node.outputs[0].name)
        if read not in constants and types.get(read) in REAL:
            found[made] = found.get(read, read)
    return found


def left_out(nodes: Iterable[gs.Node], casts: Mapping[str, str]) -> tuple[gs.Node, ...]:
    """The nodes without these Casts; the readers of their outputs read the tensors that they convert.

    Args:
        nodes: all nodes of the graph; the inputs of those that stay are changed.
        casts: the result of `between_reals`.
    """
    nodes = tuple(nodes)
    tensors = {t.name: t for node in nodes for t in (*node.inputs, *node.outputs)}
    kept = tuple(node for node in nodes if not (node.op == "Cast" and node.outputs[0].name in casts))
    for node in kept:
        for index, tensor in enumerate(node.inputs):
            if tensor.name in casts:
                node.inputs[index] = tensors[casts[tensor.name]]
    return kept


def converted(model: onnx.ModelProto, casts: Mapping[str, str], tensor: str, array: np.ndarray) -> np.ndarray:
    """The value of a tensor that Casts convert, rounded by each of them.

    Args:
        model: the model.
        casts: the result of `between_reals`.
        tensor: the output of one of them, or any other tensor.
        array: the value of the tensor that they convert.
    """
    steps: list[int] = []
    makers = {n.output[0]: n for n in model.graph.node if n.op_type == "Cast"} if tensor in casts else {}
    while tensor in casts:
        steps.append(next(int(a.i) for a in makers[tensor].attribute if a.name == "to"))
        tensor = makers[tensor].input[0]
    for kind in reversed(steps):
        array = array.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    return array


def narrowed(model: onnx.ModelProto, casts: Mapping[str, str], dtype: Callable[[str], int | None]) -> frozenset[str]:
    """The outputs of Casts whose values were rounded to another 16-bit type before, which they no longer have.

    Args:
        model: the model.
        casts: the result of `between_reals`.
        dtype: the element type of a tensor as far as it is known.
    """
    kinds: dict[str, int] = {}
    passed: dict[str, frozenset[int | None]] = {}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] in casts:
            made, read = node.output[0], node.input[0]
            kinds[made] = next(int(a.i) for a in node.attribute if a.name == "to")
            passed[made] = passed.get(read, frozenset({dtype(read)})) | {kinds[made]}
    return frozenset(name for name, kind in kinds.items() if passed[name] & (REAL - {kind, TensorProto.FLOAT}))


def has_half(model: onnx.ModelProto) -> bool:
    """Whether a constant, an input or the type attribute of a node of the model is a 16-bit floating-point type."""
    half = REAL - {TensorProto.FLOAT}
    if any(t.data_type in half for t in model.graph.initializer):
        return True
    if any(i.type.tensor_type.elem_type in half for i in model.graph.input):
        return True
    made = (a for n in model.graph.node for a in n.attribute[:])
    return any(a.i in half if a.name in TYPES else a.name == "value" and a.t.data_type in half for a in made)


def _to_real(node: gs.Node, opset: int) -> bool:
    """Returns whether a node is a Cast to a type of `REAL`; one that onnx.checker refuses stays, and is reported."""
    if node.op != "Cast" or not is_standard(node) or node.attrs.get("to") not in REAL:
        return False
    known = all(SINCE.get(name, math.inf) <= opset for name in node.attrs)
    return known and len(node.inputs) == len(node.outputs) == 1 and bool(node.inputs[0].name)


def _constants(model: onnx.ModelProto, nodes: Iterable[gs.Node]) -> set[str]:
    """Tensors computed from constants without a DequantizeLinear on the way."""
    found = {t.name for t in model.graph.initializer}
    for node in nodes:
        read = [t.name for t in node.inputs if t.name]
        if node.op != "DequantizeLinear" and (node.op == "Constant" or (read and all(t in found for t in read))):
            found.update(t.name for t in node.outputs)
    return found

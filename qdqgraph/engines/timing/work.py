"""`Work`: the bytes and operations of a kernel, from the ONNX graph of a forecast or from the layer info of trtexec."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx_graphsurgeon as gs

from ...graph.graph import Graph, input_name, key, label
from ...operators import WEIGHTED
from ..layers import BITS, Engine, Layer, Tensor

WIDE = "FP32"


@dataclass(frozen=True)
class Work:
    """What one kernel does per run.

    Attributes:
        layer: the kernel.
        bytes: bytes of activations and weights that it reads and writes.
        operations: multiplications and additions of convolutions and matrix products; 0 for other kernels.
        precision: the precision that it computes in; a key of `BITS` if it is known.
    """

    layer: Layer
    bytes: int
    operations: int
    precision: str


def works(engine: Engine, graph: Graph | None = None, floats: str = "") -> tuple[Work, ...]:
    """The work of each kernel of an engine, in execution order.

    Args:
        engine: the engine.
        graph: the ONNX graph whose nodes the layers name. Without it, layer info gives the weights of convolutions and
            matrix products; a layer for which it does not counts 0 operations.
        floats: the precision in which FP32 kernels run and FP32 tensors are stored, such as "FP16" for an engine that
            is built with --fp16; "" for no change.
    """
    nodes = {} if graph is None else {label(node): node for node in graph.nodes(*WEIGHTED)}
    found = []
    for layer in engine.working:
        stored = _narrowed(layer, floats)
        mine = [node for name in stored.nodes if (node := nodes.get(name)) is not None]
        multiplied, weights = _recorded(stored.fields, stored.inputs)
        if graph is not None and mine:
            multiplied = sum(_multiplied(graph, node) for node in mine)
            weights = sum(_weights(graph, node) for node in mine) * BITS.get(stored.precision, 32) // 8
        found.append(Work(layer, stored.bytes + weights, 2 * multiplied, stored.precision))
    return tuple(found)


def _narrowed(layer: Layer, floats: str) -> Layer:
    if not floats:
        return layer

    def stored(tensor: Tensor) -> Tensor:
        return replace(tensor, precision=floats) if tensor.precision == WIDE else tensor

    return replace(
        layer,
        inputs=tuple(map(stored, layer.inputs)),
        outputs=tuple(map(stored, layer.outputs)),
        precision=floats if layer.precision == WIDE else layer.precision,
    )


def _size(dims: Sequence[int | None]) -> int:
    """The number of elements, with 1 for a dynamic dimension."""
    return math.prod(1 if d is None or d < 0 else d for d in dims)


def _multiplied(graph: Graph, node: gs.Node) -> int:
    """The multiplications of a convolution or matrix product; 0 if shapes are unknown."""
    data, weights, out = (graph.shape(name) for name in (input_name(node, 0), input_name(node, 1), key(node)))
    if data is None or weights is None or out is None or not data or not weights:
        return 0
    if node.op == "Conv":
        return _size(out) * _size(weights[1:])
    if node.op == "ConvTranspose":  # every input element meets the weights of its channel
        return _size(data) * _size(weights[1:])
    transposed = node.op == "Gemm" and node.attrs.get("transA", 0)
    return _size(out) * _size((data[0] if transposed else data[-1],))


def _weights(graph: Graph, node: gs.Node) -> int:
    """The elements of a constant second operand."""
    name = input_name(node, 1)
    return _size(graph.shape(name) or (0,)) if graph.is_constant(name) else 0


def _recorded(fields: Mapping[str, object], inputs: Sequence[Tensor]) -> tuple[int, int]:
    """The multiplications and the bytes of the weights that layer info of TensorRT 8.x to 10.x gives.

    A convolution that pools too has its fields with the prefix Conv. The weights meet each position of the
    convolution's output, which a fused pool makes smaller, so it is computed from input, kernel and stride.
    """
    prefix = "Conv" if "ConvWeights" in fields else ""
    weights = fields.get(f"{prefix}Weights")
    if not isinstance(weights, dict) or not isinstance(count := weights.get("Count"), int) or not inputs:
        return 0, 0
    dims = inputs[0].dims
    stored = count * {"Int8": 1, "FP8": 1, "Half": 2, "BFloat16": 2}.get(str(weights.get("Type")), 4)
    kernel, stride, dilation, before, after = (
        _numbers(fields.get(prefix + name)) for name in ("Kernel", "Stride", "Dilation", "PrePadding", "PostPadding")
    )
    rank = len(kernel)
    if not rank or rank != len(dims) - 2 or not all(len(v) == rank for v in (stride, dilation, before, after)):
        return _size(dims[:1]) * count, stored
    deconvolution = fields.get("ParameterType") == "Deconvolution"
    positions = _size(dims[2:]) if deconvolution else 1
    for i in range(0 if deconvolution else rank):
        reach = dilation[i] * (kernel[i] - 1) + 1
        positions *= max(0, (_size(dims[2 + i : 3 + i]) + before[i] + after[i] - reach) // max(1, stride[i]) + 1)
    return _size(dims[:1]) * positions * count, stored


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) and all(isinstance(v, int) for v in value) else ()

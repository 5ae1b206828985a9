"""A NumPy reference of INT8 kernels, and small Q/DQ networks with one kernel each.

The reference has nothing in common with the code under test: products are summed as int64, one kernel position at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """How a convolution moves over its input: one entry for each spatial dimension; `pads` as ONNX orders them."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    group: int = 1

    @property
    def attributes(self) -> dict[str, Any]:
        return {"strides": self.strides, "dilations": self.dilations, "pads": self.pads, "group": self.group}

    def reach(self, kernel: Sequence[int]) -> tuple[int, ...]:
        """The input positions that a kernel covers."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilations, kernel, strict=True))


def convolved(x: Integers, w: Integers, window: Window) -> Integers:
    """Conv: x [N, C, ...], w [O, C / group, ...]."""
    rank, kernel = x.ndim - 2, w.shape[2:]
    before, after = window.pads[:rank], window.pads[rank:]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    reach = window.reach(kernel)
    sizes = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, window.strides, strict=True)]
    grouped = padded.reshape(len(x), window.group, w.shape[1], *padded.shape[2:])
    weights = w.reshape(window.group, -1, *w.shape[1:])
    found = np.zeros((len(x), window.group, weights.shape[1], *sizes), np.int64)
    for position in product(*map(range, kernel)):
        starts = [p * d for p, d in zip(position, window.dilations, strict=True)]
        spans = [slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, sizes, window.strides, strict=True)]
        found += np.einsum("ngc...,goc->ngo...", grouped[_last(spans)], weights[_last(position)])
    return found.reshape(len(x), w.shape[0], *sizes)


def transposed(x: Integers, w: Integers, window: Window) -> Integers:
    """ConvTranspose: x [N, C, ...], w [C, O / group, ...]."""
    rank, kernel = x.ndim - 2, w.shape[2:]
    reach = window.reach(kernel)
    whole = [(n - 1) * s + r for n, s, r in zip(x.shape[2:], window.strides, reach, strict=True)]
    grouped = x.reshape(len(x), window.group, x.shape[1] // window.group, *x.shape[2:])
    weights = w.reshape(window.group, -1, *w.shape[1:])
    found = np.zeros((len(x), window.group, w.shape[1], *whole), np.int64)
    for position in product(*map(range, kernel)):
        starts = [p * d for p, d in zip(position, window.dilations, strict=True)]
        spans = [slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, x.shape[2:], window.strides, strict=True)]
        found[_last(spans)] += np.einsum("ngc...,gco->ngo...", grouped, weights[_last(position)])
    cuts = [slice(b, n - a) for b, a, n in zip(window.pads[:rank], window.pads[rank:], whole, strict=True)]
    return found.reshape(len(x), window.group * w.shape[1], *whole)[_last(cuts)]


def _last(index: Sequence[Any]) -> tuple[Any, ...]:
    """An index of the last dimensions."""
    return (..., *index)


def scaled(sums: Integers, scale: NDArray[np.float32], bias: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """FP32 epilogue: the sum rounded once, times the scale, plus the bias."""
    found = sums.astype(np.float32) * scale
    return found if bias is None else found + bias


def quantized(values: NDArray[np.float32], scale: float) -> NDArray[np.int8]:
    """Q: the nearest integer, ties to even, saturated."""
    return np.clip(np.rint(values / np.float32(scale)), -128, 127).astype(np.int8)


@dataclass
class Net:
    """A network under construction: quantized inputs, constants and nodes."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def input(self, name: str, shape: Sequence[int]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def pair(self, tensor: str, scale: float) -> str:
        parameters = [self.constant(np.array(scale, np.float32)), self.constant(np.zeros((), np.int8))]
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [tensor, *parameters]), *parameters])

    def weights(self, integers: np.ndarray, scale: np.ndarray, axis: int) -> str:
        """Stored integers with a scale [] or [C]."""
        zero = self.constant(np.zeros(scale.shape, np.int8))
        given = [self.constant(integers.astype(np.int8)), self.constant(scale.astype(np.float32)), zero]
        return self.node("DequantizeLinear", given, axis=axis)

    def model(self, output: str, opset: int = 13) -> onnx.ModelProto:
        info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", self.inputs, [info], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

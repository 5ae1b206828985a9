"""The products of an INT8 kernel: INT8 x INT8 summed exactly, then scale and bias in FP32."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ...graph.channels import groups_of
from ...graph.graph import Graph, input_name, label
from .network import FLOAT, Network
from .operands import Operand, operand
from .sums import EXACT, parts

Value = Callable[[str], str]
"""A tensor of the graph → its FP32 value, or its integers, in the network."""


class UnfitError(Exception):
    """A kernel whose integers or scales are unknown; the message says why."""


def product(graph: Graph, node: gs.Node, network: Network, value: Value) -> str:
    """Adds the result of a weighted node, without the nodes that fuse with it, to a network; returns its name.

    The integers are summed without error. The sum, rounded once to FP32, is multiplied by input scale x weight scale
    (rounded to FP32), then the bias is added in FP32.

    Raises:
        UnfitError: its operands are not 8-bit integers with known scales, or their sums could not be exact.
    """
    operands = [operand(graph, node, index) for index in range(2)]
    for index, found in enumerate(operands):
        if found is None:
            raise UnfitError(f"'{input_name(node, index)}' has no 8-bit integers with a constant scale")
    first, second = operands
    assert first is not None and second is not None
    made = _Product(graph, node, network, value, (first, second))
    return made.convolution() if node.op in ("Conv", "ConvTranspose") else made.matrices()


class _Product:
    def __init__(
        self, graph: Graph, node: gs.Node, network: Network, value: Value, operands: tuple[Operand, Operand]
    ) -> None:
        self.graph, self.node, self.network, self.value = graph, node, network, value
        self.operands = operands

    def convolution(self) -> str:
        data, weights = self.operands
        if data.integers is not None:
            raise UnfitError("its data are constant")
        shape = self._shape(1) if weights.integers is None else weights.integers.shape
        reduced = tuple(a for a in range(len(shape)) if a != (1 if self.node.op == "ConvTranspose" else 0))
        scale = self._channel_scale(weights)
        if scale.size > 1:
            scale = scale.reshape((-1, *(1,) * (len(shape) - 2)))
        pieces = self._pieces(weights, 1, reduced, shape, data.largest)
        integers = self._integers(0)
        attributes = {a.name: helper.get_attribute_value(a) for a in self.graph.proto(self.node).attribute}
        sums = [self.network.node(self.node.op, [integers, piece], **attributes) for piece in pieces]
        found = self._scaled(self._total(sums), data.scale * scale)
        bias = input_name(self.node, 2)
        return self._plus(found, bias, (-1, *(1,) * (len(shape) - 2))) if bias else found

    def matrices(self) -> str:
        gemm = self.node.op == "Gemm"
        turned = [bool(gemm and self.node.attrs.get(name, 0)) for name in ("transA", "transB")]
        scale = np.float32(self.node.attrs.get("alpha", 1.0) if gemm else 1.0)
        factor: NDArray[np.float32] = np.asarray(scale)
        for index, found in enumerate(self.operands):
            if len(self._shape(index)) < 2:
                raise UnfitError("an operand is a vector")
            matrix = found.scale.swapaxes(-1, -2) if turned[index] and found.scale.ndim else found.scale
            factor = factor * (_one_scale(matrix, -1 if index == 0 else -2) if matrix.ndim else matrix)
        sides = [self._side(index, turn) for index, turn in enumerate(turned)]
        constant = next((i for i, o in enumerate(self.operands) if o.integers is not None), None)
        total = self._dynamic(sides) if constant is None else self._constant(sides, constant, turned[constant])
        result, bias = self._scaled(total, factor), input_name(self.node, 2) if gemm else ""
        beta = np.float32(self.node.attrs.get("beta", 1.0))
        if not bias:
            return result
        added = self.value(bias)
        if beta != 1:
            added = self.network.node("Mul", [added, self.network.constant(np.asarray(beta), "beta")])
        return self.network.node("Add", [result, added])

    def _shape(self, index: int) -> tuple[int | None, ...]:
        integers = self.operands[index].integers
        if integers is not None:
            return integers.shape
        shape = self.graph.shape(input_name(self.node, index))
        if shape is None:
            raise UnfitError(f"the rank of '{input_name(self.node, index)}' is unknown")
        return shape

    def _side(self, index: int, turned: bool) -> str:
        """The integers of a matrix that is an activation; "" for constant ones."""
        if self.operands[index].integers is not None:
            return ""
        name = self._integers(index)
        return self.network.node("Transpose", [name], perm=[1, 0]) if turned else name

    def _constant(self, sides: Sequence[str], index: int, turned: bool) -> str:
        """Sums with constant weights on one side."""
        weights, other = self.operands[index].integers, self.operands[1 - index]
        assert weights is not None
        matrix = np.swapaxes(weights, -1, -2) if turned else weights
        pieces = parts(matrix, (-1 if index == 0 else -2,), other.largest)
        if other.integers is not None:
            raise UnfitError("both operands are constant")
        sums = []
        for piece in pieces:
            name = self.network.constant(piece, f"integers/{label(self.node)}")
            sums.append(self.network.node("MatMul", [name, sides[1]] if index == 0 else [sides[0], name]))
        return self._total(sums)

    def _dynamic(self, sides: Sequence[str]) -> str:
        """Sums of products of two activations: in FP64, exact up to 2 ** 53, where they can exceed 2 ** 24."""
        length = self._shape(0)[-1 if not self.node.attrs.get("transA", 0) else 0]
        first, second = self.operands
        if length is not None and length * first.largest * second.largest <= EXACT:
            return self.network.node("MatMul", sides)
        wide = [self.network.cast(side, TensorProto.DOUBLE) for side in sides]
        return self.network.cast(self.network.node("MatMul", wide), FLOAT)

    def _pieces(
        self, weights: Operand, index: int, axes: Sequence[int], shape: Sequence[int | None], largest: int
    ) -> list[str]:
        if weights.integers is not None:
            arrays = parts(weights.integers, axes, largest)
            return [self.network.constant(array, f"integers/{label(self.node)}") for array in arrays]
        sizes = [shape[axis] for axis in axes]
        if None in sizes or math.prod(s or 0 for s in sizes) * largest * weights.largest > EXACT:
            raise UnfitError("its weights are computed at run time, and their sums may exceed 2 ** 24")
        return [self._integers(index)]

    def _integers(self, index: int) -> str:
        """The integers of an activation minus their zero-point, as FP32."""
        found, name = self.operands[index], input_name(self.node, index)
        zero = found.pair.zero_point
        assert zero is not None
        point = self.network.constant(zero.reshape(()), "zero")
        producer = self.graph.producer(name)
        if producer is not None and producer.op == "DequantizeLinear":
            integers = self.value(producer.inputs[0].name)
        else:  # the pair is upstream of data movement: the values are multiples of its scale
            scale = self.network.constant(found.scale, "scale")
            integers = self.network.node("QuantizeLinear", [self.value(name), scale, point])
        return self.network.node(
            "DequantizeLinear", [integers, self.network.constant(np.ones((), np.float32), "one"), point]
        )

    def _channel_scale(self, weights: Operand) -> NDArray[np.float32]:
        """The scale of each output channel of a convolution, [C]; [] for one."""
        scale = weights.scale
        if not scale.ndim:
            return scale
        if self.node.op == "Conv":
            return _one_scale(scale.reshape(len(scale), -1), 1).reshape(-1)
        groups = groups_of(self.node)
        grouped = scale.reshape(groups, scale.shape[0] // groups, scale.shape[1], -1)
        return _one_scale(np.moveaxis(grouped, 2, 1).reshape(groups * scale.shape[1], -1), 1).reshape(-1)

    def _total(self, sums: Sequence[str]) -> str:
        if len(sums) == 1:
            return sums[0]
        total = self.network.cast(sums[0], TensorProto.DOUBLE)
        for each in sums[1:]:
            total = self.network.node("Add", [total, self.network.cast(each, TensorProto.DOUBLE)])
        return self.network.cast(total, FLOAT)

    def _scaled(self, sums: str, scale: NDArray[np.float32]) -> str:
        return self.network.node("Mul", [sums, self.network.constant(scale, f"scale/{label(self.node)}")])

    def _plus(self, found: str, bias: str, shape: Sequence[int]) -> str:
        form = self.network.constant(np.array(shape, np.int64), "shape")
        return self.network.node("Add", [found, self.network.node("Reshape", [self.value(bias), form])])


def _one_scale(scale: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The scales along an axis, which is kept with one element.

    Raises:
        UnfitError: they differ along it.
    """
    if not scale.shape[axis]:
        return np.ones([1 if a == axis % scale.ndim else n for a, n in enumerate(scale.shape)], np.float32)
    first = scale.take([0], axis)
    if not np.array_equal(np.broadcast_to(first, scale.shape), scale):
        raise UnfitError("its weights have several scales for one output channel")
    return first

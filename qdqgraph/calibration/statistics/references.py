"""`Weights`: finds the weights before quantization in a float network, by their values.

Exporters rename, transpose and reorder constants, but rounding moves a weight by one step at most. So a constant of
the same shape that fits everywhere within one step is the weight, whatever its name. Exporters also fold a
BatchNormalization into the convolution upstream: its folded weights and biases are constants to compare with as well.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from ...graph.amax import INT8_BOUND
from ...graph.graph import Graph, input_name
from ...model.constants import array_of, constant_value
from ...operators import CONVOLUTIONS

SHARE = 0.99
"""The share of elements that must agree: weights beyond a clipped range need not."""
REACH = 1.01
"""Steps between a weight and its rounded value: less than 1/2 for rounding to nearest, up to 1 for rounding that is
learned (AdaRound)."""
MOST_SATURATED = 0.5
"""The share of elements that may lie beyond the range."""


Read = Callable[[], "np.ndarray | None"]
"""Reads a constant; None if its data are gone."""


class Weights:
    """The constants of a float network, by shape. Each is read when it is compared, so none stays in memory.

    Args:
        model: the network before quantization.
        folder: where its external data lie.
    """

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        self._by_shape: dict[tuple[int, ...], list[Read]] = defaultdict(list)
        for tensor in model.graph.initializer:
            if np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).kind == "f":
                self._add(tuple(tensor.dims), partial(array_of, tensor, folder))
        for node in model.graph.node:
            array = constant_value(node, folder) if node.op_type == "Constant" else None
            if array is not None and array.dtype.kind == "f":
                self._add(array.shape, partial(constant_value, node, folder))
        graph = Graph(model, folder)
        for node in graph.nodes("BatchNormalization"):
            for index, array in enumerate(_folded(graph, node)):
                if array.dtype.kind == "f":
                    self._add(array.shape, partial(_one_of, graph, node, index))

    def _add(self, shape: tuple[int, ...], read: Read) -> None:
        if not math.prod(shape):
            return
        self._by_shape[shape].append(read)
        if len(shape) == 2:
            self._by_shape[shape[::-1]].append(partial(_transposed, read))

    def find(self, dequantized: np.ndarray, steps: np.ndarray) -> np.ndarray | None:
        """The constant that rounds to these weights, in their shape; None if there is none.

        Args:
            dequantized: weights after quantization, of any shape.
            steps: one integer step for each; broadcasts to the weights.
        """
        best, least = None, math.inf
        for read in self._by_shape.get(dequantized.shape, ()):
            array = read()
            distance = None if array is None else _distance(array, dequantized, steps)
            if distance is not None and distance < least:
                best, least = array, distance
        return best


def _transposed(read: Read) -> np.ndarray | None:
    array = read()
    return None if array is None else array.T


def _one_of(graph: Graph, node: gs.Node, index: int) -> np.ndarray:
    return next(islice(_folded(graph, node), index, None))


def _folded(graph: Graph, node: gs.Node) -> Iterator[np.ndarray]:
    """Weights and bias of a convolution with a BatchNormalization downstream of it, folded."""
    before = graph.producer(node.inputs[0].name)
    if before is None or before.op not in CONVOLUTIONS:
        return
    weights = graph.array(input_name(before, 1))
    given = [graph.array(input_name(node, index)) for index in range(1, 5)]
    scale, shift, mean, variance = (None if a is None else a.astype(np.float64).reshape(-1) for a in given)
    if weights is None or scale is None or shift is None or mean is None or variance is None:
        return
    axis = 1 if before.op == "ConvTranspose" else 0
    if weights.shape[axis] != scale.size:
        return  # a ConvTranspose with groups
    factor = scale / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5)))
    along = [1] * weights.ndim
    along[axis] = -1
    bias = graph.array(input_name(before, 2)) if input_name(before, 2) else None
    yield (weights * factor.reshape(along)).astype(weights.dtype)
    yield ((0 if bias is None else bias) * factor + shift - mean * factor).astype(weights.dtype)


def _distance(array: np.ndarray, dequantized: np.ndarray, steps: np.ndarray) -> float | None:
    """The mean distance in steps; None if too many elements are further apart than rounding can move them. What lies
    beyond the range of symmetric INT8 may be saturated."""
    with np.errstate(divide="ignore", invalid="ignore"):
        places, rounded = array.astype(np.float64) / steps, dequantized / steps
        apart = np.abs(places - rounded)
        saturated = (np.abs(rounded) > INT8_BOUND - 1) & (places / rounded >= 1)
    near = apart <= REACH
    if (near | saturated).mean() < SHARE or not near.any() or saturated.mean() > MOST_SATURATED:
        return None
    return float(apart[near].mean())

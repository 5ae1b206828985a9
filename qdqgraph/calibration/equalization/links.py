"""`Link`: two layers with weights between which a factor per channel can move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from ...graph.graph import Graph, input_name, key
from ...model.protos import is_standard
from ...operators import CONVOLUTIONS, HOMOGENEOUS
from ..weights.products import Product

LAYERS = CONVOLUTIONS | {"Gemm"}
"""Operators whose channels are axis 1 of their input and of their result."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or Gemm whose weights are a constant of its own.

    Attributes:
        node: its node.
        product: the layout of its weights.
    """

    node: gs.Node
    product: Product

    @property
    def key(self) -> str:
        """The key of its node."""
        return key(self.node)

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.product.outputs

    @cached_property
    def _kernel(self) -> int:
        return int(np.prod(self.product.shape[2:], dtype=np.int64))

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return self.product.groups * self.product.depth // self._kernel

    def blocks(self, weights: NDArray[np.floating]) -> NDArray[np.floating]:
        """The weights as [groups, outputs of a group, inputs of a group, kernel]."""
        return self._blocks(self.product.columns(weights))

    def multiplier(self, into: NDArray[np.float64], out: NDArray[np.float64]) -> NDArray[np.float64]:
        """What to multiply the weights with, in their shape, so that input channels are multiplied with `into` and
        output channels with `out`.

        Args:
            into: [input channels].
            out: [output channels].
        """
        blocks = self._blocks(self.product.columns(np.ones(self.product.shape)))
        groups, _, width, _ = blocks.shape
        blocks = blocks * into.reshape(groups, 1, width, 1) * out.reshape(groups, -1, 1, 1)
        return np.asarray(self.product.weights(blocks.reshape(*blocks.shape[:2], -1)))

    def _blocks(self, columns: NDArray[np.floating]) -> NDArray[np.floating]:
        return columns.reshape(*columns.shape[:2], -1, self._kernel)


@dataclass(frozen=True, eq=False)
class Link:
    """Two layers with homogeneous operators in between, and no other reader.

    Attributes:
        first: the layer whose output channels can be divided by factors.
        second: the layer whose input channels are then multiplied with them.
        tensors: the tensors in between, in the network without pairs; the second layer reads the first of them.
    """

    first: Layer
    second: Layer
    tensors: tuple[str, ...]

    @property
    def tensor(self) -> str:
        """The input of the second layer."""
        return self.tensors[0]


def links(graph: Graph) -> Iterator[Link]:
    """The links of a network without pairs, in the order of their second layers.

    What is between two layers must be homogeneous (`operators.HOMOGENEOUS`), so that its result has the factors of its
    input, and each tensor have one reader and be no output of the graph.
    """
    for node in graph.nodes():
        second = layer(graph, node)
        if second is None or node.attrs.get("transA", 0):
            continue
        tensors, tensor = [], input_name(node, 0)
        while len(graph.readers(tensor)) == 1 and tensor not in graph.outputs:
            before = graph.producer(tensor)
            if before is None or key(before) != tensor:
                break
            tensors.append(tensor)
            first = layer(graph, before)
            if first is not None:
                if first.outputs == second.inputs:
                    yield Link(first, second, tuple(tensors))
                break
            if not _homogeneous(graph, before):
                break
            tensor = input_name(before, 0)


def layer(graph: Graph, node: gs.Node) -> Layer | None:
    """The node as a layer; None if it is no such layer, or its weights are computed from data or have other readers."""
    if node.op not in LAYERS or not is_standard(node):
        return None
    name, shape = input_name(node, 1), graph.shape(input_name(node, 1))
    if not graph.is_constant(name) or len(graph.readers(name)) != 1 or shape is None or None in shape:
        return None
    product = Product.of(node, 1, tuple(d for d in shape if d is not None))
    return None if product is None else Layer(node, product)


def _homogeneous(graph: Graph, node: gs.Node) -> bool:
    others = (t.name for t in node.inputs[1:] if t.name)
    return node.op in HOMOGENEOUS and is_standard(node) and all(map(graph.is_constant, others))

"""`Product`: a layer with constant weights as a product of matrices: rows of its inputs, and one column per output.

A convolution multiplies each window of its input with the weights of a group. A ConvTranspose does so too, after zeros
are inserted between the elements of its input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ...graph.channels import groups_of
from ...model.protos import is_standard

LEAST_ROWS = 1024
"""Rows that are taken of a sample at least, if it has as many."""
ROWS_PER_WEIGHT = 2
"""Rows that are taken of a sample for each weight of an output; neighbours in an image are much alike."""


@dataclass(frozen=True, eq=False)
class Product:
    """A layer whose weights are one of its inputs.

    Attributes:
        node: the Conv, ConvTranspose, Gemm or MatMul.
        index: the input that has the weights; the other one of the first two has the data.
        shape: the shape of the weights.
    """

    node: gs.Node
    index: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, node: gs.Node, index: int, shape: tuple[int, ...]) -> Product | None:
        """The product of a node with weights of that shape at that input; None if it is not one, or of a form that is
        not supported: weights of a MatMul with more than two dimensions, a ConvTranspose with a given output size."""
        if not is_standard(node) or math.prod(shape) == 0:
            return None
        found = cls(node, index, shape)
        if node.op == "Conv" and index == 1 and len(shape) > 2 and shape[0] % found.groups == 0:
            return found
        if node.op == "ConvTranspose" and index == 1 and len(shape) > 2 and shape[0] % found.groups == 0:
            fixed = node.attrs.get("output_shape") or node.attrs.get("auto_pad", "NOTSET") != "NOTSET"
            return None if fixed or min(map(min, found._margins())) < 0 else found
        if node.op == "Gemm" and index == 1 and len(shape) == 2:
            return found
        return found if node.op == "MatMul" and index in (0, 1) and len(shape) == 2 else None

    @property
    def data(self) -> str:
        """The tensor that is multiplied with the weights."""
        return str(self.node.inputs[1 - self.index].name)

    @property
    def groups(self) -> int:
        """Number of groups of a convolution."""
        return groups_of(self.node)

    @property
    def depth(self) -> int:
        """Weights of one output."""
        return math.prod(self.shape) // self.outputs

    @property
    def outputs(self) -> int:
        """Outputs of all groups together."""
        if self.node.op == "ConvTranspose":
            return self.shape[1] * self.groups
        return self.shape[1] if self._transposed else self.shape[0]

    @property
    def layout(self) -> tuple[Any, ...]:
        """What the order of weights in a column depends on: products of one layout can share their weights."""
        return self.node.op, self.index, self.groups, self._transposed, self.shape

    @property
    def _transposed(self) -> bool:
        """Whether the outputs of a matrix of weights are its columns."""
        if self.node.op == "Gemm":
            return not self.node.attrs.get("transB", 0)
        return bool(self.node.op == "MatMul" and self.index == 1)

    def columns(self, weights: NDArray[Any]) -> NDArray[Any]:
        """The weights as [groups, outputs of a group, depth]; the inverse of `weights`."""
        if self.node.op == "ConvTranspose":
            inputs, outputs, *kernel = self.shape
            flipped = np.flip(weights, tuple(range(2, weights.ndim)))
            grouped = flipped.reshape(self.groups, inputs // self.groups, outputs, *kernel)
            return grouped.swapaxes(1, 2).reshape(self.groups, outputs, -1)
        matrix = weights.T if self._transposed else weights
        return matrix.reshape(self.groups, self.outputs // self.groups, -1)

    def weights(self, columns: NDArray[Any]) -> NDArray[Any]:
        """The weights in their own shape, from columns."""
        if self.node.op == "ConvTranspose":
            inputs, outputs, *kernel = self.shape
            grouped = columns.reshape(self.groups, outputs, inputs // self.groups, *kernel).swapaxes(1, 2)
            return np.flip(grouped.reshape(self.shape), tuple(range(2, len(self.shape))))
        matrix = columns.reshape(self.outputs, -1)
        return (matrix.T if self._transposed else matrix).reshape(self.shape)

    def rows(self, data: NDArray[Any], seed: int = 0) -> NDArray[Any]:
        """What one sample's outputs are products of, [groups, rows, depth]: of many rows a random part.

        Args:
            data: the values of the tensor `data`.
            seed: chooses the part.
        """
        if self.node.op in ("Conv", "ConvTranspose"):
            return self._windows(data, seed)
        if self.node.op == "MatMul":
            rows = data.swapaxes(-1, -2) if self.index == 0 and data.ndim > 1 else data
        else:
            rows = data.T if self.node.attrs.get("transA", 0) else data
        rows = rows.reshape(-1, self.depth)
        return rows[self._chosen(len(rows), seed)][None]

    def _windows(self, data: NDArray[Any], seed: int) -> NDArray[Any]:
        attributes, kernel = self.node.attrs, self.shape[2:]
        dilations = attributes.get("dilations", [1] * len(kernel))
        strides = [1] * len(kernel) if self.node.op == "ConvTranspose" else attributes.get("strides", [1] * len(kernel))
        if self.node.op == "ConvTranspose":
            data = _spread(data, attributes.get("strides", [1] * len(kernel)))
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        padded = np.pad(data, [(0, 0), (0, 0), *self._pads(data.shape[2:], spans, strides)])
        axes = tuple(range(2, data.ndim))
        if any(size < span for size, span in zip(padded.shape[2:], spans, strict=True)):
            return np.zeros((self.groups, 0, self.depth), data.dtype)
        views = sliding_window_view(padded, spans, axes)
        steps = [slice(None, None, s) for s in strides], [slice(None, None, d) for d in dilations]
        views = views[(slice(None), slice(None), *steps[0], *steps[1])]
        places = (views.shape[0], *views.shape[2 : 2 + len(kernel)])
        chosen: tuple[Any, ...] = np.unravel_index(self._chosen(math.prod(places), seed), places)
        rows = views[(chosen[0], slice(None), *chosen[1:])]
        return np.ascontiguousarray(rows.reshape(len(chosen[0]), self.groups, -1).swapaxes(0, 1))

    def _pads(self, sizes: tuple[int, ...], spans: list[int], strides: list[int]) -> list[tuple[int, int]]:
        if self.node.op == "ConvTranspose":
            return self._margins()
        rule, rank = self.node.attrs.get("auto_pad", "NOTSET"), len(sizes)
        if rule in ("SAME_UPPER", "SAME_LOWER"):
            total = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(sizes, strides, spans, strict=True)]
            return [(t // 2, t - t // 2) if rule == "SAME_UPPER" else (t - t // 2, t // 2) for t in total]
        pads = [0] * 2 * rank if rule == "VALID" else self.node.attrs.get("pads", [0] * 2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))

    def _margins(self) -> list[tuple[int, int]]:
        """Zeros around the spread input of a ConvTranspose."""
        kernel, attributes = self.shape[2:], self.node.attrs
        rank = len(kernel)
        pads, more = attributes.get("pads", [0] * 2 * rank), attributes.get("output_padding", [0] * rank)
        reach = [d * (k - 1) for d, k in zip(attributes.get("dilations", [1] * rank), kernel, strict=True)]
        return [(reach[i] - pads[i], reach[i] - pads[rank + i] + more[i]) for i in range(rank)]

    def _chosen(self, rows: int, seed: int) -> NDArray[np.intp]:
        most = max(LEAST_ROWS, ROWS_PER_WEIGHT * self.depth)
        if rows <= most:
            return np.arange(rows)
        return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _spread(data: NDArray[Any], strides: list[int]) -> NDArray[Any]:
    """The data with zeros between the elements."""
    sizes = [(n - 1) * s + 1 for n, s in zip(data.shape[2:], strides, strict=True)]
    wide = np.zeros((*data.shape[:2], *sizes), data.dtype)
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in strides))] = data
    return wide

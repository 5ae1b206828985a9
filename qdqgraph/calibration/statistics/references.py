"""`Weights`: finds the weights before quantization in a float network, by their values.

Exporters rename, transpose and reorder constants, but rounding moves a weight by one step at most. So a constant of
the same shape that fits everywhere within one step is the weight, whatever its name.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx

from ...model.constants import array_of, constant_value

SHARE = 0.99
"""The share of elements that must agree: weights beyond a clipped range need not."""
REACH = 1.01
"""Steps between a weight and its rounded value: less than 1/2 for rounding to nearest, up to 1 for rounding that is
learned (AdaRound)."""


class Weights:
    """The constants of a float network, by shape.

    Args:
        model: the network before quantization.
        folder: where its external data lie.
    """

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        self._by_shape: dict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
        for tensor in model.graph.initializer:
            self._add(array_of(tensor, folder))
        for node in model.graph.node:
            if node.op_type == "Constant":
                self._add(constant_value(node, folder))

    def _add(self, array: np.ndarray | None) -> None:
        if array is None or array.dtype.kind != "f" or array.size < 2:
            return
        self._by_shape[array.shape].append(array)
        if array.ndim == 2:
            self._by_shape[array.shape[::-1]].append(array.T)

    def find(self, dequantized: np.ndarray, steps: np.ndarray) -> np.ndarray | None:
        """The constant that rounds to these weights, in their shape; None if there is none.

        Args:
            dequantized: weights after quantization, of any shape.
            steps: one integer step for each; broadcasts to the weights.
        """
        fitting = [
            (distance, array)
            for array in self._by_shape[dequantized.shape]
            if (distance := _distance(array, dequantized, steps)) is not None
        ]
        return min(fitting, key=lambda found: found[0])[1] if fitting else None


def _distance(array: np.ndarray, dequantized: np.ndarray, steps: np.ndarray) -> float | None:
    """The mean distance in steps; None if too many elements are further apart than rounding can move them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(array.astype(np.float64) - dequantized) / steps
    near = apart <= REACH
    return float(apart[near].mean()) if near.mean() >= SHARE else None

"""`Upstream`: what computes each constant of a graph, found once in linear time: rules ask it at every layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph.constants import constants, keep_recent
from ..graph.graph import Graph, key
from ..graph.pair import pairs
from ..graph.quantization import Quantization
from ..operators import LINEAR, MOVES_WEIGHTS

KEPT = MOVES_WEIGHTS | LINEAR | {"Constant"}
"""Operators after the DequantizeLinear of weights that stay; measured on TensorRT-RTX 1.7.1: with Gather, Pad or Neg
the layer runs in float, and a Concat is refused. Products with other constants have no INT8 form with the same bits."""


@dataclass(frozen=True)
class Origin:
    """What computes a constant.

    Attributes:
        settable: an initializer upstream is also a graph input, which a caller may set.
        dequantized: a DequantizeLinear of a pair is upstream.
        kept: between those and the constant, TensorRT keeps every operator as it is.
        stepped: the scales of all those are known.
    """

    settable: bool = False
    dequantized: bool = False
    kept: bool = True
    stepped: bool = True


STORED = Origin()
"""An initializer."""


class Upstream:
    """The origins of the constants of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph, table = graph, pairs(graph)
        inputs = {i.name for i in graph.model.graph.input} if graph.model.ir_version >= 4 else set()
        self._origins: dict[str, Origin] = {}
        self._leaves: dict[str, Quantization] = {}
        self._steps: dict[str, np.ndarray] = {}
        self._recent = ""
        for name in constants(graph).nodes:
            node = graph.node(name)
            if node.op == "Constant":
                continue  # as an initializer: nothing is upstream of it
            found = [self._origins.get(each, STORED) for each in constants(graph).reads(node)]
            leaf = table.of(node) if node.op == "DequantizeLinear" else None
            own = None if leaf is None else Quantization.of(leaf)
            if own is not None:
                self._leaves[name] = own
            origin = Origin(
                settable=any(t.name in inputs for t in node.inputs) or any(o.settable for o in found),
                dequantized=leaf is not None or any(o.dequantized for o in found),
                kept=leaf is not None or (node.op in KEPT and all(o.kept for o in found)),
                stepped=(leaf is None or own is not None) and all(o.stepped for o in found),
            )
            self._origins.update((t.name, origin) for t in node.outputs if t.name)

    def of(self, tensor: str) -> Origin:
        """The origin of a constant; that of an initializer for any other tensor."""
        return self._origins.get(self._graph.source(tensor), STORED)

    def steps(self, tensor: str) -> np.ndarray | None:
        """The value of a constant if each DequantizeLinear upstream produced its scale: one step of its integers.

        None if a scale or a value is unknown.
        """
        if not self.of(tensor).stepped:
            return None
        for name in self._nearest(tensor):
            shape, own = self._graph.array(name), self._leaves[name]
            if shape is None:
                return None
            self._steps[name] = np.broadcast_to(own.along(own.scale, shape.ndim), shape.shape)
        found = constants(self._graph).value(tensor, self._steps)
        if found is not None:
            self._recent = keep_recent(self._steps, self._recent, tensor, found)
        return found

    def _nearest(self, tensor: str) -> list[str]:
        """The leaves upstream whose steps are not known yet."""
        path = constants(self._graph).path(tensor, self._steps)
        return [name for name in map(key, path) if name in self._leaves]

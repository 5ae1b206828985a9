"""`ending`: the Softmax or Sigmoid that an output of a network ends in.

SQNR after it says more about how near to 0 and 1 a sample is than about quantization: between photographs it varies by
50 dB for the same error of its input.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from ...graph.graph import Graph, input_name
from ...graph.pair import is_pair
from ...model.protos import is_standard
from ...operators import PROBABILITIES, RESHAPES


def ending(graph: Graph, output: str) -> gs.Node | None:
    """The operator of `PROBABILITIES` that makes an output; only Q/DQ, Casts, and operators that change the shape or
    the order of elements are between them. None if there is none."""
    node = graph.producer(graph.source(output))
    while node is not None and node.inputs and _passes(node):
        node = graph.producer(input_name(node, 0))
    return node if node is not None and is_standard(node) and node.op in PROBABILITIES else None


def _passes(node: gs.Node) -> bool:
    return is_pair(node) or (is_standard(node) and node.op in RESHAPES | {"Cast"})

"""Operators that draw random numbers, and seeds that make every run draw the same ones.

ONNX Runtime seeds a generator that has no seed with the position of its node, so a graph with one node more draws other
numbers (https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/providers/cpu/generator/random.h).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import onnx
from onnx import AttributeProto, helper

from ..operators import RANDOM
from .protos import is_standard, key, subgraphs


def random_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yields the nodes of a graph and of its subgraphs that draw random numbers; Dropout only in training mode, which
    is its third input."""
    for node in graph.node:
        if is_standard(node) and node.op_type in RANDOM and (node.op_type != "Dropout" or any(node.input[2:])):
            yield node
        for inner in subgraphs(node):
            yield from random_nodes(inner)


def seeded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with a seed for each random node that has none, from the name of its output; a model without
    random nodes itself."""
    if not any(random_nodes(model.graph)):
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    for node in random_nodes(new.graph):
        if not any(a.name == "seed" for a in node.attribute):
            number = zlib.crc32(key(node).encode()) % 2**20
            whole = node.op_type == "Dropout"
            kind = AttributeProto.INT if whole else AttributeProto.FLOAT
            node.attribute.append(helper.make_attribute("seed", number if whole else float(number), attr_type=kind))
    return new

"""The float reference of a quantized model: its weights as the file stores them, its activations not rounded.

Where an exporter quantizes coarsely, as dynamic quantization inside an LSTM does, the original is farther from the
float network than its repair. The distance of the two then says nothing about the repair; the distance of each from the
float values does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from ..graph.graph import Graph, key
from ..graph.pair import is_pair
from ..repair.rounds import fix
from ..rulekit.rule import Rule


def float_reference(model: onnx.ModelProto, rules: Sequence[Rule], folder: Path) -> onnx.ModelProto:
    """Returns a model whose quantized operators compute in float on the dequantized weights of the file, and whose
    activations are not rounded.

    Args:
        model: the model; it is not modified.
        rules: the rules of the run; those that replace quantized operators are applied.
        folder: the folder that contains the external data.

    Raises:
        ModelError, RuleError: as `fix`.
        RepairError: a quantized operator cannot be replaced.
    """
    standard = fix(model, [rule for rule in rules if rule.quantized], folder=folder).model
    return unrounded(Graph(standard, folder))


def unrounded(graph: Graph) -> onnx.ModelProto:
    """Returns the model with each DequantizeLinear of an activation replaced by a Cast of the unquantized tensor."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for index, node in enumerate(graph.nodes()):
        source = graph.producer(node.inputs[0].name) if node.op == "DequantizeLinear" and is_pair(node) else None
        if source is None or source.op != "QuantizeLinear" or graph.is_constant(source.inputs[0].name):
            continue
        kind = graph.dtype(key(node)) or graph.dtype(node.inputs[1].name) or TensorProto.FLOAT
        cast = helper.make_node("Cast", [source.inputs[0].name], [key(node)], to=kind)
        model.graph.node[index].CopyFrom(cast)
    return model

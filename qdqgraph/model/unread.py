"""`named`: a model for ONNX Runtime in which nothing is left out that ends its process.

ONNX allows leaving out outputs of Split and Loop, and the last inputs of a node by an empty name; ONNX Runtime allows
leaving out the last zero-point of QLinearSigmoid and QLinearLeakyRelu. ONNX Runtime then ends the process when it runs
the Split or Loop or a DFT with an empty last name, or loads a LayerNormalization with one, or the others; it refuses an
If or Scan without an output (measured on 1.32.0).
"""

from __future__ import annotations

import onnx

from .protos import fresh, is_standard, names, nested

VARIADIC = onnx.defs.OpSchema.FormalParameterOption.Variadic
INPUTS = {"QLinearLeakyRelu": 5, "QLinearSigmoid": 5}
"""The number of inputs that operators of com.microsoft get, with empty names."""


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with a name for each output, and an empty name for each input, that these operators leave out,
    and without the empty names at the end of the inputs of others; the model itself if there is none."""
    if not any(map(_leaves_out, (node for outer in model.graph.node for node in nested(outer)))):
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    taken = set(names(new.graph))
    for node in filter(_leaves_out, [node for outer in new.graph.node for node in nested(outer)]):
        if node.op_type in INPUTS:
            node.input.extend([""] * (INPUTS[node.op_type] - len(node.input)))
            continue
        while _ends_empty(node):
            del node.input[-1]
        if not _is_variadic(node.op_type):
            continue
        for index, name in enumerate(node.output):
            node.output[index] = name or fresh("qdqgraph_unread", taken)
    return new


def _leaves_out(node: onnx.NodeProto) -> bool:
    if node.op_type in INPUTS:
        return node.domain == "com.microsoft" and len(node.input) < INPUTS[node.op_type]
    if not is_standard(node):
        return False
    return _ends_empty(node) or (not all(node.output[:]) and _is_variadic(node.op_type))


def _ends_empty(node: onnx.NodeProto) -> bool:
    """Whether the last input has an empty name and need not be listed."""
    if not node.input or node.input[-1] or not onnx.defs.has(node.op_type):
        return False
    return len(node.input) > onnx.defs.get_schema(node.op_type).min_input


def _is_variadic(op: str) -> bool:
    """Whether an operator of ONNX has any number of outputs, such as Split and Loop."""
    if not onnx.defs.has(op):
        return False
    outputs = onnx.defs.get_schema(op).outputs
    return bool(outputs) and outputs[-1].option == VARIADIC

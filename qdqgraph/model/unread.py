"""`named`: a model for ONNX Runtime in which every output of a Split or Loop has a name.

ONNX allows leaving out such outputs; ONNX Runtime ends the process with a segmentation fault when it runs such a Split
or Loop, and refuses such an If or Scan (measured on 1.32.0).
"""

from __future__ import annotations

import onnx

from .protos import fresh, is_standard, names, nested

VARIADIC = frozenset({"If", "Loop", "Scan", "Split"})


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with a name for each output that these operators leave out; the model itself if there is
    none."""
    if not any(_leaves_out(node) for outer in model.graph.node for node in nested(outer)):
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    taken = set(names(new.graph))
    for node in (node for outer in new.graph.node for node in nested(outer)):
        if _leaves_out(node):
            for index, name in enumerate(node.output):
                node.output[index] = name or fresh("qdqgraph_unread", taken)
    return new


def _leaves_out(node: onnx.NodeProto) -> bool:
    return node.op_type in VARIADIC and is_standard(node) and not all(node.output[:])

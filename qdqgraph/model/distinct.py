"""`distinct`: constants have no name that ONNX Runtime makes when it loads the model.

Its preprocessing for quantization (quant_pre_process) saves what it has fused, with the constants of the fusion. When
it loads that file again, ONNX Runtime 1.32 first makes one of equal constants, and then fuses what a repair lets it
fuse: a MatMul and the Add of its bias. The new constants get the names of those that it has just replaced, and it
refuses the model: "Attempt to replace the existing tensor".
"""

from __future__ import annotations

import re

import onnx

from . import protos

MADE = re.compile(r"gemm_(input|output)_shape(_token_\d+)?")
"""Names of constants that its fusion of MatMul and Add makes. Source: matmul_add_fusion.cc of ONNX Runtime."""
KEPT = "_kept"
"""The end of the new names."""


def distinct(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with other names for such constants; the model itself if it has none."""
    graph = model.graph
    fixed = {info.name for info in (*graph.input, *graph.output)}
    fixed.update(note.tensor_name for note in graph.quantization_annotation)
    found = [t.name for t in graph.initializer if MADE.fullmatch(t.name) and t.name not in fixed]
    if not found:
        return model
    new = onnx.ModelProto()
    new.CopyFrom(model)
    taken = set(protos.names(new.graph))
    by = {name: protos.fresh(f"{name}{KEPT}", taken) for name in found}
    for node in new.graph.node:
        protos.rename_inputs(node, by)
    for item in (*new.graph.initializer, *new.graph.value_info):
        item.name = by.get(item.name, item.name)
    return new

"""Emulates FP16 storage as on a GPU: every FP16 tensor is rounded.

ONNX Runtime's CPU provider computes most FP16 operators in FP32 and omits the rounding between two of them, which hides
an overflow inside an FP16 network (measured, 1.32). It keeps explicit Casts from FP32 to FP16.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import ModelError
from .functions import inlined
from .protos import STANDARD, element_types, refill, subgraphs

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model in FP32 with Casts to FP16 and back after each FP16 tensor; inputs and outputs stay FP16.

    The tensors of local functions are rounded too, as in the model with these inlined. A model without FP16, or with
    subgraphs or operators of other domains, is returned unchanged.
    """
    given = model
    try:
        model = inlined(given)[0]
    except ModelError:  # ONNX Runtime may still run it
        return given
    if not _mentions_half(model):
        return given
    types = element_types(model)
    half = {name for name, kind in types.items() if kind == HALF}
    if not half or any(n.domain not in STANDARD or any(subgraphs(n)) for n in model.graph.node):
        return given
    new = onnx.ModelProto()
    new.CopyFrom(model)
    wide = {name: f"{name}__fp32" for name in half}
    inputs = {i.name for i in new.graph.input}
    nodes = [helper.make_node("Cast", [name], [wide[name]], to=FLOAT) for name in sorted(inputs & half)]
    for tensor in new.graph.initializer:
        if tensor.name not in half or tensor.name in inputs:
            continue
        if tensor.external_data:  # it stays in its file
            nodes.append(helper.make_node("Cast", [tensor.name], [wide[tensor.name]], to=FLOAT))
        else:
            array = numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(numpy_helper.from_array(array, wide[tensor.name]))
    for node in new.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = wide.get(name, name)
        widen(node)
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in half:
                node.output[index] = f"{name}__exact"
                nodes.append(helper.make_node("Cast", [node.output[index]], [name], to=HALF))
                nodes.append(helper.make_node("Cast", [name], [wide[name]], to=FLOAT))
    refill(new.graph.node, nodes)
    return new


def _mentions_half(model: onnx.ModelProto) -> bool:
    """Returns whether the model has an FP16 source: a graph input, a constant or a Cast."""
    infos = (i.type.tensor_type.elem_type for i in model.graph.input)
    casts = (a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute)
    constants = (t.data_type for t in model.graph.initializer)
    nodes = (a.t.data_type for n in model.graph.node for a in n.attribute if a.HasField("t"))
    return HALF in (*infos, *casts, *constants, *nodes)


def widen(node: onnx.NodeProto) -> None:
    """Replaces FP16 by FP32 in the node's attributes."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype", "output_dtype") and attribute.i == HALF:
            attribute.i = FLOAT
        if attribute.HasField("t") and attribute.t.data_type == HALF:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype("float32")))

"""FP32 graphs as half-precision models in the form that pytorch-quantization exports: Casts around each pair."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
PAIRS = ("QuantizeLinear", "DequantizeLinear")


def sandwiched(model: onnx.ModelProto, kind: int = HALF) -> onnx.ModelProto:
    """The FP32 model in a 16-bit type, with Cast (to FP32) → Q → DQ → Cast (from FP32) at every pair and FP32 scales.

    Tensors and nodes keep their names, so findings name the same places. A DequantizeLinear that is a graph output
    stays one, in FP32. Only for graphs without subgraphs.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    graph = new.graph
    del graph.value_info[:]
    opset = next(o.version for o in new.opset_import if o.domain in ("", "ai.onnx"))
    fixed = {name for node in graph.node for name in _fixed(node, opset)} | _upstream(graph.node)
    scales = {n for node in graph.node for n in _scales(node)}
    free = {n for node in graph.node for i, n in enumerate(node.input) if i != 1 or node.op_type not in PAIRS}
    for tensor in list(graph.initializer):
        if tensor.data_type == FLOAT and tensor.name in free and tensor.name not in fixed:
            if tensor.name in scales:  # also the scale of a pair
                copy = graph.initializer.add()
                copy.CopyFrom(tensor)
                copy.name = f"{tensor.name}_scale"
            _halve(tensor, kind)
    shared = {t.name.removesuffix("_scale") for t in graph.initializer if t.name.endswith("_scale")}
    made = {o for node in graph.node if node.op_type == "DequantizeLinear" for o in node.output}
    kept = {t.name for t in graph.initializer if t.data_type == FLOAT} | made  # some exporters list constants as inputs
    for info in (*graph.input, *graph.output):
        if info.type.tensor_type.elem_type == FLOAT and info.name not in kept:
            info.type.tensor_type.elem_type = kind
    nodes: list[onnx.NodeProto] = []
    wide: set[str] = set()
    for node in graph.node:
        if node.op_type in PAIRS:
            _rename_scale(node, shared)
            nodes += _pair(node, wide, kind)
        else:
            for index, name in enumerate(node.input):
                if name in made:
                    node.input[index] = f"{name}_half"
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
                    attribute.i = kind
                filled = node.op_type in ("Constant", "ConstantOfShape") and attribute.t.data_type == FLOAT
                if filled and not set(node.output) & (scales | fixed):
                    _halve(attribute.t, kind)
            nodes.append(node)
    read = {name for node in nodes for name in node.input}
    alive = [n for n in nodes if n.op_type != "Cast" or n.output[0] in read or not n.output[0].endswith("_half")]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in alive]
    del graph.node[:]
    graph.node.extend(copies)
    return new


def _pair(node: onnx.NodeProto, wide: set[str], kind: int) -> Iterator[onnx.NodeProto]:
    if node.op_type == "DequantizeLinear":
        yield node
        yield helper.make_node("Cast", [node.output[0]], [f"{node.output[0]}_half"], to=kind)
        return
    source = node.input[0]
    if source.endswith("_half"):
        source = source.removesuffix("_half")
    if f"{source}_float" not in wide:
        wide.add(f"{source}_float")
        yield helper.make_node("Cast", [source], [f"{source}_float"], to=FLOAT)
    node.input[0] = f"{source}_float"
    yield node


def _upstream(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Tensors from which the scales of the pairs are computed."""
    producers = {o: node for node in nodes for o in node.output}
    pending = [name for node in nodes for name in _scales(node) if name in producers]
    found: set[str] = set()
    while pending:
        read = [n for n in producers[pending.pop()].input if n not in found]
        found.update(read)
        pending += [n for n in read if n in producers]
    return found


def _scales(node: onnx.NodeProto) -> Iterable[str]:
    return node.input[1:2] if node.op_type in PAIRS else ()


def _rename_scale(node: onnx.NodeProto, shared: set[str]) -> None:
    if node.input[1] in shared:
        node.input[1] = f"{node.input[1]}_scale"


def _fixed(node: onnx.NodeProto, opset: int) -> Iterator[str]:
    """Inputs whose type ONNX fixes, such as the scales of a Resize."""
    if node.op_type in PAIRS or not onnx.defs.has(node.op_type, opset):
        return
    schema = onnx.defs.get_schema(node.op_type, opset)
    for index, name in enumerate(node.input):
        if name and schema.inputs[min(index, len(schema.inputs) - 1)].type_str == "tensor(float)":
            yield name


def _halve(tensor: TensorProto, kind: int) -> None:
    array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array), tensor.name))

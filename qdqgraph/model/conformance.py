"""What onnx.checker rejects in a model, node by node, as `check_model(full_check=True)` does for the whole.

The check needs no weights: it works for models with external data, and for more than 2 GiB. Operators of other domains,
and nodes with subgraphs, are not checked.
"""

from __future__ import annotations

import re

import onnx
import onnx.onnx_cpp2py_export.checker as checker

from ..errors import first_line
from .protos import STANDARD, key, subgraphs, version
from .strict_inference import error_of

NEWEST = onnx.defs.onnx_opset_version()
PLAIN = frozenset({"data_type", "dims", "name", "raw_data"})
"""The fields of a tensor that is stored in the usual way."""
PLACE = re.compile(r"\(op_type:\w+, node name: (.*?)\): (.*)", re.DOTALL)
"""How shape inference names the node of an error."""


def faults(model: onnx.ModelProto) -> dict[str, str]:
    """Returns the error of onnx.checker for each node that it rejects, by the node's key.

    Errors of type and shape inference are reported one at a time, and only if every node fits its operator.
    """
    opset = version(model)
    found: dict[str, str] = {}
    valid: set[object] = set()
    for node in model.graph.node:
        form = _form(node)
        if form is None or form not in valid:
            if node.domain not in STANDARD or not key(node) or subgraphs(node):
                continue
            if fault := node_fault(node, opset):
                found[key(node)] = fault
            else:
                valid.add(form)
    return found or _inference_fault(model)


def _form(node: onnx.NodeProto) -> object:
    """What decides whether a node is checked and fits its operator, equal for nodes that differ in names and values
    alone; None if unknown."""
    attributes: list[tuple[object, ...]] = []
    for attribute in node.attribute[:]:
        if attribute.type == onnx.AttributeProto.TENSOR:
            tensor = attribute.t
            size = len(tensor.raw_data)
            if not size or any(field.name not in PLAIN for field, _ in tensor.ListFields()):
                return None
            attributes.append((attribute.name, tensor.data_type, *tensor.dims[:], size))
        else:
            attributes.append((attribute.name, attribute.SerializeToString()))
    inputs, outputs = node.input[:], node.output[:]
    absent = tuple([name == "" for name in (*inputs, *outputs)]) if "" in inputs or "" in outputs else ()
    return node.op_type, node.domain, len(inputs), len(outputs), absent, *attributes


def node_fault(node: onnx.NodeProto, opset: int) -> str:
    """Returns why a node does not fit the definition of its operator in an opset; "" if it does."""
    context = checker.CheckerContext()
    context.ir_version, context.opset_imports = onnx.IR_VERSION, {"": opset, "ai.onnx": opset}
    try:
        checker.check_node(node.SerializeToString(), context, checker.LexicalScopeContext())
    except checker.ValidationError as error:
        return first_line(error)
    return ""


def fitting_opset(node: onnx.NodeProto, opset: int) -> int | None:
    """Returns the opset for which a node was written: the nearest earlier one in which it is valid, else the nearest
    later one; None if there is none, or if the node is valid in `opset`."""
    if not node_fault(node, opset):
        return None
    others = (*range(opset - 1, 0, -1), *range(opset + 1, NEWEST + 1))
    return next((other for other in others if not node_fault(node, other)), None)


def _inference_fault(model: onnx.ModelProto) -> dict[str, str]:
    """Returns the error of strict type and shape inference, by the key of its node; empty if there is none."""
    place = PLACE.search(error_of(model))
    if place is None:
        return {}
    name, message = place.groups()
    made = {output for node in model.graph.node for output in node.output[:]}
    return {name: " ".join(message.split())} if name and name in made else {}

"""`refuse_unsound`: no call returns or writes a model that ONNX rejects, unless it rejects the original too."""

from __future__ import annotations

import re

import onnx

from ..errors import ModelError, RepairError
from ..model.conformance import faults
from ..model.protos import STANDARD, is_ordered
from ..model.validate import validate, validate_references


def refuse_unsound(original: onnx.ModelProto, new: onnx.ModelProto, accepted: onnx.ModelProto | None = None) -> None:
    """Rejects a result that is damaged, or that type and shape inference rejects while it accepts the original.

    Needs no weights, so it also works for more than 2 GiB; what is written is checked once more by onnx.checker.

    Args:
        original: the model as it was given; it is valid, so nodes of the result that it has too are not checked again.
        new: the result.
        accepted: a model whose nodes, types and shapes onnx is known to accept, see `Repair.accepted`.

    Raises:
        ModelError: the file declares a tensor otherwise than its operators compute it, which onnx does not see in the
            original, because an operator of another domain computes it, or operators compute an argument of its own.
        RepairError: the result is not a valid model: a defect of a rule or of qdqgraph.
    """
    if new is original:
        return
    try:
        ordered = validate(new, {node.SerializeToString() for node in original.graph.node})
        validate_references(new.graph)
        if not ordered:
            _refuse_unordered(original, new)
    except ModelError as error:
        raise RepairError(f"the result would not be a valid model, so it is not returned: {error}; {REPORT}") from error
    found = {} if new is accepted else faults(new)
    if found and not faults(original):
        place, fault = next(iter(found.items()))
        if DECLARED.search(fault) and (why := _unseen(original, new, place)):
            raise ModelError(
                f"the file declares '{place}' otherwise than its operators compute it: {fault}; onnx does not "
                f"see that in the file, because {why}: correct the declaration"
            )
        raise RepairError(f"onnx rejects the result at '{place}', so it is not returned: {fault}; {REPORT}")


REPORT = "please report it with the model; --ignore CODE leaves out the rule that causes it"

DECLARED = re.compile(r"[Ii]nferred (shape|elem type).* existing|existing=")
"""In an error of onnx about a declared type that is not the inferred one."""


def _unseen(original: onnx.ModelProto, new: onnx.ModelProto, tensor: str) -> str:
    """Why onnx could not infer a tensor of the original, which it infers in the result; "" if neither is known."""
    left = {(node.domain, name) for node in new.graph.node for name in node.output}
    for node in original.graph.node:
        if node.domain not in STANDARD and any((node.domain, name) not in left for name in node.output):
            return f"it does not know the operators of {node.domain}"
    stored = {t.name for t in new.graph.initializer} - {t.name for t in original.graph.initializer}
    for node in new.graph.node:
        if tensor in node.output and (found := next((name for name in node.input if name in stored), "")):
            return f"operators compute '{found}', which is a constant after the repair"
    return ""


def _refuse_unordered(original: onnx.ModelProto, new: onnx.ModelProto) -> None:
    name = _early(new)
    if name and is_ordered(original.graph.node):
        raise ModelError(f"a node reads '{name}' before the node that produces it")


def _early(model: onnx.ModelProto) -> str:
    """A tensor that a node reads before its producer; "" if there is none."""
    made = {name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if name := next((name for name in node.input if name in made), ""):
            return name
        made.difference_update(node.output)
    return ""

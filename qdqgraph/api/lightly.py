"""`lightly`: a call on a large file leaves the weights in it, and its result reads them when it is asked for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import onnx

from ..fp16 import Fp16Model
from ..graph.graph import Graph
from ..model.inline import whole
from ..model.inline.on_demand import complete, postpone
from ..model.inline.references import Files, in_command, referencing
from ..proposals.proposal import Constant, Graft, Proposal
from ..repair.corrections import Correction
from ..repair.edits import Edit, Insert, Remove
from ..repair.plan import Plan
from ..report.checked import Checked
from ..report.results import Result
from ..rulekit.finding import Finding
from .given import File, Model

R = TypeVar("R", Result, Fp16Model)
T = TypeVar("T")


def lightly(call: Callable[[], R], model: Model, output: File | None) -> R:
    """Returns the result of a call. A large file that it is given is read without its weights (`model.skeleton`).

    Those of the result's plan and models are read from the files that the call opened, which stay open until then, or
    until the result is gone.

    Args:
        call: the call.
        model: the model that it is given.
        output: the file that it writes; without one, the result is all there is, and contains its weights.
    """
    result = _on_demand(call, model, _Stored.kept)
    if output is None and not in_command():
        complete(result)
    return result


def checked(call: Callable[[], Checked], model: Model) -> Checked:
    """Returns the result of a check. A large file is read as by `lightly`; the result's graph reads the weights."""
    return _on_demand(call, model, _Stored.kept_check)


def _on_demand(call: Callable[[], T], model: Model, kept: Callable[[_Stored, T], T]) -> T:
    if isinstance(model, onnx.ModelProto) or in_command():
        return call()
    stored = _Stored()
    with referencing(stored.files):
        result = call()
        return kept(stored, result) if stored.files.by_location else result


class _Stored:
    """The open files of a call, as its result needs them."""

    def __init__(self) -> None:
        self.files = Files()
        self._read: dict[int, onnx.ModelProto] = {}

    def __del__(self) -> None:
        self.files.close()

    def kept(self, result: R) -> R:
        """Postpones the models and the plan of a result; its proposals get their weights now."""
        new: dict[str, Any] = {}
        if isinstance(result, Result):
            new = {name: tuple(map(_finding, getattr(result, name))) for name in ("applied", "left", "found")}
            new["corrections"] = tuple(map(_correction, result.corrections))
            new["fp16"] = None if result.fp16 is None else self.kept(result.fp16)
        made = replace(result, **new)
        reads = {"model": self._model, "exact": self._model, "start": self._model, "plan": self._plan}
        for name, read in reads.items():
            if name in vars(made):
                postpone(made, name, read)
        return made

    def kept_check(self, result: Checked) -> Checked:
        """Postpones the graph of a result; its proposals get their weights now."""
        own = result.known
        known = replace(own, findings=tuple(map(_finding, own.findings)), scanned=tuple(map(_finding, own.scanned)))
        postpone(known, "graph", self._graph)
        after = result.rehearsal
        after = None if after is None else replace(after, left=tuple(map(_finding, after.left)))
        return replace(result, findings=tuple(map(_finding, result.findings)), known=known, rehearsal=after)

    def _graph(self, light: Graph) -> Graph:
        graph = Graph(self._model(light.model), light.folder, known=light)
        graph.functions = light.functions
        return graph

    def _model(self, light: onnx.ModelProto) -> onnx.ModelProto:
        """The model with its weights; one object for one."""
        if id(light) not in self._read:
            with referencing(self.files):
                self._read[id(light)] = whole.loaded(light)
        return self._read[id(light)]

    def _plan(self, light: Plan) -> Plan:
        with referencing(self.files):
            return replace(light, edits=tuple(map(_edit, light.edits)))


def _edit(edit: Edit) -> Edit:
    if not isinstance(edit, Insert | Remove) or edit.field != "initializer":
        return edit
    return replace(edit, data=_tensor(edit.data))


def _tensor(data: bytes) -> bytes:
    """A serialized tensor with its own bytes."""
    tensor = onnx.TensorProto.FromString(data)
    return whole.resolved(tensor).SerializeToString(deterministic=True) if whole.is_light(tensor) else data


def _finding(finding: Finding) -> Finding:
    edits = tuple(map(_proposal, finding.edits))
    return finding if all(a is b for a, b in zip(edits, finding.edits, strict=True)) else replace(finding, edits=edits)


def _correction(correction: Correction) -> Correction:
    layers = (replace(layer, edits=tuple(map(_proposal, layer.edits))) for layer in correction.layers)
    return replace(correction, layers=tuple(layers))


def _proposal(proposal: Proposal) -> Proposal:
    """A proposal whose constants have their own bytes; itself if they have."""
    new: dict[str, Any] = {}
    if isinstance(proposal, Graft):
        nodes = tuple(map(_node, proposal.nodes))
        new = {} if nodes == proposal.nodes else {"nodes": nodes}
    for field in fields(proposal):
        value = getattr(proposal, field.name)
        if isinstance(value, Constant) and (data := _tensor(value.data)) is not value.data:
            new[field.name] = Constant(data)
    return replace(proposal, **new) if new else proposal


def _node(data: bytes) -> bytes:
    """A serialized node whose tensors have their own bytes."""
    node = onnx.NodeProto.FromString(data)
    light = [attribute for attribute in node.attribute if attribute.HasField("t") and whole.is_light(attribute.t)]
    for attribute in light:
        attribute.t.CopyFrom(whole.resolved(attribute.t))
    return node.SerializeToString() if light else data

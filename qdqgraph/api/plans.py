"""Calls on plans, and on two models: apply, undo, diff."""

from __future__ import annotations

from pathlib import Path

import onnx

from ..errors import PlanError, reason
from ..graph.graph import Graph
from ..model.files import write_model
from ..repair.plan import Plan
from ..verify.difference import differences
from . import given
from .given import File, Model, Progress


def apply(
    plan: Plan | File,
    model: Model,
    *,
    output: File | None = None,
    force: bool = True,
    note: Progress = lambda sentence: None,
) -> onnx.ModelProto:
    """Makes the edits of a saved plan.

    Args:
        plan: a plan, or the path of one that `fix` wrote.
        output, force: as `fix`.
        note: called with what a user should know of the written file.

    Raises:
        PlanError: the plan is damaged, or was made for another model.
        ModelError: the model cannot be read or written.
    """
    return _edited(_plan(plan), model, output, force, note)


def undo(
    plan: Plan | File,
    model: Model,
    *,
    output: File | None = None,
    force: bool = True,
    note: Progress = lambda sentence: None,
) -> onnx.ModelProto:
    """Takes the edits of a saved plan back: the original, byte for byte where protobuf wrote its file.

    Raises:
        PlanError, ModelError: as `apply`.
    """
    return _edited(_plan(plan).inverse(), model, output, force, note)


def diff(a: Model, b: Model) -> tuple[str, ...]:
    """Pairs, scales and places that differ between two models, a line each; none where the quantization is the same.

    Raises:
        ModelError: a model cannot be read or imported.
    """
    first, second = (Graph(found, place) for found, place, _ in (given.read(a, None), given.read(b, None)))
    return tuple(differences(first, second))


def _edited(plan: Plan, model: Model, output: File | None, force: bool, note: Progress) -> onnx.ModelProto:
    found, _, source = given.read(model, None)
    new = plan.apply(found)
    if output is not None and (sentence := write_model(new, Path(output), source, force=force)):
        note(sentence)
    return new


def _plan(plan: Plan | File) -> Plan:
    if isinstance(plan, Plan):
        return plan
    try:
        return Plan.from_json(Path(plan).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{plan}: cannot be read: {reason(error)}") from error

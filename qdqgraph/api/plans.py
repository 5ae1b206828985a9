"""Functions for plans and for two models: apply, undo, diff."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from ..errors import PlanError, reason
from ..graph.graph import Graph
from ..model import kinds
from ..model.inline import whole
from ..model.inline.references import in_command, referencing
from ..model.recognized import mistaken
from ..model.writing.models import Source, placed, write_model
from ..model.writing.outputs import refuse_to_overwrite
from ..repair.plan import Plan
from ..repair.plan_light import light_plan
from ..verify.difference import differences
from . import given
from .call import public
from .given import File, Model, Progress, log_step


@public()
def apply(
    plan: Plan | File,
    model: Model,
    *,
    output: File | None = None,
    force: bool = False,
    note: Progress = log_step,
) -> onnx.ModelProto:
    """Applies a plan to the model it was made for, and returns the new model.

    Args:
        plan: a plan, or the path of a plan that `fix` wrote.
        model: a model, or its path.
        output: as `fix`.
        force: as `fix`.
        note: called with a note about the written file, if any.

    Raises:
        PlanError: the plan is damaged, or belongs to another model.
        ModelError: the model cannot be read or written.
    """
    _refuse(plan, output, force)
    return _whole(lambda: _edited(_plan(plan, output), model, output, force, note, restored=False))


@public()
def undo(
    plan: Plan | File,
    model: Model,
    *,
    output: File | None = None,
    force: bool = False,
    note: Progress = log_step,
) -> onnx.ModelProto:
    """Undoes a plan and returns the original model.

    The file is restored byte for byte if it equals protobuf's deterministic serialization, and also if onnx.checker
    rejects it. Arguments as `apply`.

    Raises:
        PlanError, ModelError: as `apply`.
    """
    _refuse(plan, output, force)
    return _whole(lambda: _edited(_plan(plan, output).inverse(), model, output, force, note, restored=True))


@public(plain=True)
def diff(a: Model, b: Model) -> tuple[str, ...]:
    """Returns the pairs, scales and placements that differ between two models, one line each.

    Raises:
        ModelError: a model cannot be read or imported.
    """
    return tuple(differences(_opened(a), _opened(b)))


def _opened(model: Model) -> Graph:
    found, place, file = given.read(model, None)
    with given.named(file):
        return Graph.opened(found, place)


def _edited(
    plan: Plan, model: Model, output: File | None, force: bool, note: Progress, *, restored: bool
) -> onnx.ModelProto:
    found, place, file = given.read(model, None)
    new = plan.apply(found)
    if output is None:
        return new
    source = Source.restoring(file, place, found, new)
    located = placed(new, Path(output), source, force=force, keep_locations=True)
    for sentence in write_model(located, Path(output), source, force=force, restored=restored):
        note(sentence)
    return new


def _whole(edited: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """A new model with its weights. They are in files until it is written; for the command line, which needs no more,
    they stay there."""
    if in_command():
        return edited()
    with referencing():
        return whole.loaded(edited())


def _refuse(plan: Plan | File, output: File | None, force: bool) -> None:
    """Rejects an output that cannot be written, or that is the file of the plan."""
    if output is not None:
        inputs = () if isinstance(plan, Plan) else (Path(plan),)
        refuse_to_overwrite(Path(output), force=force, inputs=inputs)


def _plan(plan: Plan | File, output: File | None) -> Plan:
    if isinstance(plan, Plan):
        return plan
    path = Path(plan)
    try:
        folder = Path(tempfile.gettempdir()) if output is None else Path(output).parent
        if (light := light_plan(path, folder)) is not None:
            return Plan(*light)
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, PlanError) as error:
        swapped = {kinds.ONNX: "the plan comes first: PLAN MODEL"}
        other = mistaken(path, "a plan of qdqgraph", (kinds.PLAN, kinds.JSON, kinds.TEXT), swapped)
        fault = error if isinstance(error, PlanError) else f"cannot be read: {reason(error)}"
        raise PlanError(f"{plan}: {other or fault}") from error

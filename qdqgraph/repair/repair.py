"""`Repair`: the result of `fix`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import onnx

from ..errors import counted
from ..model.inline.on_demand import OnDemand
from ..model.protos import with_metadata
from ..rulekit.finding import Finding
from .corrections import Correction
from .measured import Measured
from .plan import Plan
from .solution import Change
from .start import OpsetRaise

R = TypeVar("R", bound="Repair")


@dataclass(frozen=True)
class FloatLayer:
    """A weighted layer that `quantize` leaves in floating point.

    Attributes:
        layer: its name; operator and output if it has none.
        operator: its ONNX operator.
        reason: why, as a clause: "its input 'x' has no range".
    """

    layer: str
    operator: str
    reason: str


@dataclass(frozen=True)
class Repair(OnDemand):
    """The result of `fix` or `quantize`.

    Attributes:
        model: the repaired model.
        plan: the net difference between the given model and the repaired model.
        exact: the model after the bit-exact repairs; `model` itself if no other repair followed.
        start: the given model with its functions inlined and its opset raised, before any other repair.
        functions: names of the local functions that were inlined.
        opset: the raised opset, with the reason; None if it did not change.
        applied: the findings that were repaired, in order.
        left: the findings that remain, with the reason if a repair was refused.
        changes: the sites whose scale changed, with the bits lost since the original.
        pairs_before: number of activation pairs before the repair.
        pairs_after: number of activation pairs after the repair.
        pairs_added: number of activation pairs that are new.
        pairs_removed: number of activation pairs that are gone.
        corrections: what the steps on data did to constants, in order (see `repair.corrections`).
        groups: number of groups of sites that share one scale after the repair.
        floats: the weighted layers that `quantize` left in floating point; empty for the other repairs.
        found: the findings of the model before the repair, without costs; empty for `quantize` and `strip`.
        measured: what data say of the sites; None without data, and in a `Result`.
        legal: with data, the model with no repairs but those of what the target refuses; None otherwise, for
            `quantize`, and in a `Result`.
        accepted: the repaired model if onnx was found to accept its nodes, types and shapes, so that it need not be
            asked again; None if it was not asked, and in a `Result`.
    """

    model: onnx.ModelProto
    plan: Plan
    exact: onnx.ModelProto
    start: onnx.ModelProto
    functions: tuple[str, ...]
    opset: OpsetRaise | None
    applied: tuple[Finding, ...]
    left: tuple[Finding, ...]
    changes: tuple[Change, ...]
    pairs_before: int
    pairs_after: int
    pairs_added: int
    pairs_removed: int
    corrections: tuple[Correction, ...]
    groups: int
    floats: tuple[FloatLayer, ...] = ()
    found: tuple[Finding, ...] = ()
    measured: Measured | None = field(default=None, repr=False, compare=False)
    legal: onnx.ModelProto | None = None
    accepted: onnx.ModelProto | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        found = f"{counted(len(self.applied), 'finding')} repaired, {len(self.left)} left"
        return f"<{type(self).__name__}: {found}, {self.plan!r}>"


def with_entry(repair: R, original: onnx.ModelProto, key: str, value: str) -> R:
    """The repair of a model with a metadata entry in its result and in its plan."""
    made = with_metadata(repair.model, key, value)
    accepted = made if repair.accepted is repair.model else None
    return replace(repair, model=made, plan=repair.plan.with_metadata(original, made), accepted=accepted)


def joined(model: onnx.ModelProto, before: Repair, after: Repair, *, floats: bool = False) -> Repair:
    """A repair of a model, and a repair of its result or of a variant of that, as one repair.

    Args:
        model: the model.
        before: its repair.
        after: the second repair.
        floats: the second one began with a float network, so its findings and pairs are all there are.
    """
    joined = replace(
        after,
        plan=Plan.between(model, after.model),
        exact=before.exact,
        start=before.start,
        functions=before.functions,
        opset=before.opset,
        found=before.found,
    )
    if floats:
        return joined
    changes = {change.site: change for change in before.changes}
    for change in after.changes:
        first = changes.get(change.site)
        changes[change.site] = change if first is None else replace(change, own=first.own)
    return replace(
        joined,
        applied=(*before.applied, *after.applied),
        changes=tuple(changes.values()),
        pairs_before=before.pairs_before,
        pairs_added=before.pairs_added + after.pairs_added,
        pairs_removed=before.pairs_removed + after.pairs_removed,
    )

"""`Plan`: everything a repair does to a file, as a frozen value: shown, saved, applied, refused when stale, undone.

A plan is the net difference of two models (`Plan.between`): nodes, initializers, value infos, inputs and outputs,
metadata entries and operator sets that came or went, at their places, and node inputs that changed. What it does not
name stays byte for byte as it was.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import onnx

from ..errors import PlanError
from ..model.protos import key, refill
from .edits import ITEM, NAMED_BY, Edit, Field, Insert, Remove, SetInput, SetVersion, describe
from .plan_file import plan_text, read_plan


def digest(model: onnx.ModelProto) -> str:
    """sha256 of the model's serialized form, which for files written by protobuf is the file itself."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


@dataclass(frozen=True)
class Plan:
    """Edits, with the digests of the model before and after.

    Indexes of `Remove` count in the base model, those of `Insert` in the result; so the inverse needs no model.
    """

    base: str
    result: str
    edits: tuple[Edit, ...]

    @classmethod
    def between(cls, before: onnx.ModelProto, after: onnx.ModelProto) -> Plan:
        """The plan that turns `before` into `after`, where they differ in plannable fields only.

        Raises:
            PlanError: they differ elsewhere.
        """
        edits: list[Edit] = []
        for field in ITEM:
            edits += _difference(field, _items(before, field), _items(after, field))
        if before.ir_version != after.ir_version:
            edits.append(SetVersion(before.ir_version, after.ir_version))
        plan = cls(digest(before), digest(after), tuple(edits))
        if digest(plan._edited(before)) != plan.result:
            raise PlanError("the change touches more than a plan names; it cannot be a plan")
        return plan

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A new model with the edits made.

        Raises:
            PlanError: the plan was made for another model, or its result is not what it promises.
        """
        found = digest(model)
        if found != self.base:
            done = " (it is the plan's result: undo it instead)" if found == self.result else ""
            raise PlanError(
                f"the plan was made for a model with sha256 {self.base[:12]}, this one has {found[:12]}{done}"
            )
        new = self._edited(model)
        if digest(new) != self.result:
            raise PlanError("the plan is damaged: applying it does not give the result it promises")
        return new

    def inverse(self) -> Plan:
        """The plan that undoes this one, to the byte."""
        return Plan(self.result, self.base, tuple(e.inverse() for e in self.edits))

    def diff(self) -> str:
        """The edits, a line each: + inserted, - removed, ~ changed."""
        return "\n".join(describe(e) for e in self.edits)

    def to_json(self) -> str:
        """The plan as JSON text, the same for the same plan."""
        return plan_text(self.base, self.result, self.edits)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Reads what `to_json` wrote.

        Raises:
            PlanError: the text is not JSON, of another format, or a field is wrong; the message names the field.
        """
        return cls(*read_plan(text))

    def _edited(self, model: onnx.ModelProto) -> onnx.ModelProto:
        new = onnx.ModelProto()
        new.CopyFrom(model)
        inputs = {(e.node, e.index): e for e in self.edits if isinstance(e, SetInput)}
        for field in ITEM:
            mine = [e for e in self.edits if isinstance(e, Insert | Remove) and e.field == field]
            if mine:
                _splice(new, field, mine)
        for version in self.edits:
            if isinstance(version, SetVersion):
                if new.ir_version != version.old:
                    raise PlanError(f"the plan is stale: ir_version is {new.ir_version}, not {version.old}")
                new.ir_version = version.new
        for node in new.graph.node if inputs else ():
            for index, name in enumerate(node.input):
                edit = inputs.pop((key(node), index), None)
                if edit is None:
                    continue
                if name != edit.old:
                    raise PlanError(f"the plan is stale: input {index} of {edit.node!r} is {name!r}, not {edit.old!r}")
                node.input[index] = edit.new
        if inputs:
            raise PlanError(f"the plan is stale: there is no node input {next(iter(inputs))}")
        return new


def _items(model: onnx.ModelProto, field: Field) -> Any:
    return getattr(model if field in ("metadata_props", "opset_import") else model.graph, field)


def _splice(model: onnx.ModelProto, field: Field, edits: Iterable[Edit]) -> None:
    """Takes the removed items out and puts the inserted ones in, in one pass."""
    items = list(_items(model, field))
    gone: set[int] = set()
    come: dict[int, bytes] = {}
    for edit in edits:
        if isinstance(edit, Remove):
            if edit.index >= len(items) or items[edit.index].SerializeToString(deterministic=True) != edit.data:
                raise PlanError(f"the plan is stale: {field} {edit.index} is not what it removes")
            gone.add(edit.index)
        elif isinstance(edit, Insert):
            come[edit.index] = edit.data
    kept = iter([item for i, item in enumerate(items) if i not in gone])
    new = []
    for index in range(len(items) - len(gone) + len(come)):
        item = ITEM[field].FromString(come[index]) if index in come else next(kept, None)
        if item is None:
            raise PlanError(f"the plan is damaged: nothing to put at {field} {index}")
        new.append(item)
    refill(_items(model, field), new)


def _difference(field: Field, before: Sequence[Any], after: Sequence[Any]) -> list[Edit]:
    """Edits between two lists. Nodes that only changed inputs become `SetInput`; moved ones go and come."""
    old = [item.SerializeToString(deterministic=True) for item in before]
    new = [item.SerializeToString(deterministic=True) for item in after]
    if old == new:
        return []
    names = key if field == "node" else attrgetter(NAMED_BY.get(field, "name"))
    where = {names(item): i for i, item in enumerate(before)}
    edits: list[Edit] = []
    same: list[tuple[int, int]] = []
    for j, item in enumerate(after):
        i = where.get(names(item), -1)
        if i >= 0 and (old[i] == new[j] or (field == "node" and _only_inputs(before[i], item))):
            same.append((i, j))
    stay = _increasing(same)
    for i, j in stay if field == "node" else ():
        pairs_of_names = zip(before[i].input, after[j].input, strict=True)
        edits += [SetInput(key(after[j]), k, a, b) for k, (a, b) in enumerate(pairs_of_names) if a != b]
    left, right = {i for i, _ in stay}, {j for _, j in stay}
    edits += [Remove(field, i, data) for i, data in enumerate(old) if i not in left]
    edits += [Insert(field, j, data) for j, data in enumerate(new) if j not in right]
    return edits


def _only_inputs(a: onnx.NodeProto, b: onnx.NodeProto) -> bool:
    if len(a.input) != len(b.input):
        return False
    bare = []
    for node in (a, b):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.ClearField("input")
        bare.append(copy.SerializeToString(deterministic=True))
    return bare[0] == bare[1]


def _increasing(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest run of pairs (i, j), sorted by j, whose i increase: the items that need not move (patience sort)."""
    tails: list[int] = []
    ends: list[int] = []
    previous: list[int] = []
    for n, (i, _) in enumerate(pairs):
        k = bisect_left(tails, i)
        previous.append(ends[k - 1] if k else -1)
        tails[k : k + 1] = [i]
        ends[k : k + 1] = [n]
    run: list[tuple[int, int]] = []
    n = ends[-1] if ends else -1
    while n >= 0:
        run.append(pairs[n])
        n = previous[n]
    return run[::-1]

"""`Plan`: all changes of a repair to a file, as a frozen value that can be shown, saved, applied and undone.

A plan is the net difference of two models (`Plan.between`): added and removed nodes, initializers, value infos, inputs
and outputs, metadata entries, opsets and local functions, with their indexes, and changed node inputs. Everything else
stays byte for byte unchanged. A stale plan, made for another model, is refused.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import onnx

from ..errors import PlanError, counted
from ..model.inline import whole
from ..model.protos import key, refill
from .edits import ITEM, NAMED_BY, OF_MODEL, Edit, Field, Insert, Remove, SetInput, SetVersion, describe
from .plan_file import plan_blocks, read_plan

LARGE = 1 << 16
"""Bytes of an item from which on it is compared by its digest."""


def digest(model: onnx.ModelProto) -> str:
    """sha256 of the serialized model, which is identical to the file if protobuf wrote it."""
    return whole.digest(model).hex()


@dataclass(frozen=True)
class Plan:
    """Edits, with the digests of the model before and after.

    Indexes of `Remove` refer to the base model, those of `Insert` to the result, so the inverse needs no model.

    Attributes:
        base: the digest of the model before.
        result: the digest of the model after.
        edits: the edits.
    """

    base: str
    result: str
    edits: tuple[Edit, ...]

    def __repr__(self) -> str:
        return f"<Plan: {counted(len(self.edits), 'edit')}, {self.base[:12]} -> {self.result[:12]}>"

    @classmethod
    def between(cls, before: onnx.ModelProto, after: onnx.ModelProto) -> Plan:
        """The plan that changes `before` into `after`.

        Raises:
            PlanError: they differ in more than the fields of `ITEM`, node inputs and ir_version.
        """
        edits: list[Edit] = []
        for field in ITEM:
            edits += _difference(field, _items(before, field), _items(after, field))
        if before.ir_version != after.ir_version:
            edits.append(SetVersion(before.ir_version, after.ir_version))
        plan = cls(digest(before), digest(after), tuple(edits))
        if digest(plan._edited(before)) != plan.result:
            raise PlanError("the models differ in fields that a plan cannot change")
        return plan

    def with_metadata(self, before: onnx.ModelProto, after: onnx.ModelProto) -> Plan:
        """The plan of a result that differs from this plan's in its metadata entries alone.

        Args:
            before: the base model.
            after: the result with its new entries.
        """
        kept = [e for e in self.edits if _field(e) != "metadata_props"]
        edits = [*kept, *_difference("metadata_props", before.metadata_props, after.metadata_props)]
        order = [*ITEM, None]
        return Plan(self.base, digest(after), tuple(sorted(edits, key=lambda e: order.index(_field(e)))))

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A new model with the edits applied.

        Raises:
            PlanError: the plan was made for another model, or the result does not have the recorded digest.
        """
        found = digest(model)
        if found != self.base:
            done = " (it is the plan's result: undo it instead)" if found == self.result else ""
            raise PlanError(
                f"the plan was made for a model with sha256 {self.base[:12]}, this one has {found[:12]}{done}"
            )
        new = self._edited(model)
        if digest(new) != self.result:
            raise PlanError("the plan is damaged: applying it does not produce the recorded result")
        return new

    def inverse(self) -> Plan:
        """The plan that undoes this one, byte for byte."""
        return Plan(self.result, self.base, tuple(e.inverse() for e in self.edits))

    def diff(self) -> str:
        """The edits, one per line: + inserted, - removed, ~ changed."""
        return "\n".join(describe(e) for e in self.edits)

    def to_json(self) -> str:
        """The plan as JSON text; equal plans give equal texts."""
        return b"".join(self.blocks()).decode()

    def blocks(self) -> Iterator[bytes]:
        """Yields the text of `to_json` in UTF-8, with few weights in memory at a time."""
        return plan_blocks(self.base, self.result, self.edits)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Reads what `to_json` wrote.

        Raises:
            PlanError: the text is not JSON, has another format, or a field is wrong; the message names the field.
        """
        return cls(*read_plan(text))

    def _edited(self, model: onnx.ModelProto) -> onnx.ModelProto:
        new = onnx.ModelProto()
        new.CopyFrom(model)
        inputs: dict[str, dict[int, SetInput]] = {}
        for each in self.edits:
            if isinstance(each, SetInput):
                inputs.setdefault(each.node, {})[each.index] = each
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
            asked = inputs.get(key(node), {})
            for index, name in enumerate(node.input[:] if asked else ()):
                edit = asked.pop(index, None)
                if edit is None:
                    continue
                if name != edit.old:
                    raise PlanError(f"the plan is stale: input {index} of {edit.node!r} is {name!r}, not {edit.old!r}")
                node.input[index] = edit.new
        if missing := [(node, index) for node, asked in inputs.items() for index in asked]:
            raise PlanError(f"the plan is stale: there is no node input {missing[0]}")
        return new


def _field(edit: Edit) -> Field | None:
    """The repeated field that an edit changes; None for the version."""
    if isinstance(edit, SetVersion):
        return None
    return "node" if isinstance(edit, SetInput) else edit.field


def _items(model: onnx.ModelProto, field: Field) -> Any:
    return getattr(model if field in OF_MODEL else model.graph, field)


def _splice(model: onnx.ModelProto, field: Field, edits: Iterable[Edit]) -> None:
    """Removes and inserts the items of a field in one pass."""
    items = list(_items(model, field))
    removed: set[int] = set()
    inserted: dict[int, bytes] = {}
    for edit in edits:
        if isinstance(edit, Remove):
            if edit.index >= len(items) or not _equals(items[edit.index], edit.data):
                raise PlanError(f"the plan is stale: {field} {edit.index} is not the item it removes")
            removed.add(edit.index)
        elif isinstance(edit, Insert):
            inserted[edit.index] = edit.data
    kept = iter([item for i, item in enumerate(items) if i not in removed])
    new = []
    for index in range(len(items) - len(removed) + len(inserted)):
        item = ITEM[field].FromString(inserted[index]) if index in inserted else next(kept, None)
        if item is None:
            raise PlanError(f"the plan is damaged: it has no item for {field} {index}")
        new.append(item)
    refill(_items(model, field), new)


def _difference(field: Field, before: Sequence[Any], after: Sequence[Any]) -> list[Edit]:
    """The edits between two lists. Nodes that differ only in inputs become `SetInput`; moved ones are re-inserted."""
    old, new = ([_content(item) for item in items] for items in (before, after))
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
    for i, j in [(i, j) for i, j in stay if old[i] != new[j]]:
        pairs_of_names = zip(before[i].input, after[j].input, strict=True)
        edits += [SetInput(key(after[j]), k, a, b) for k, (a, b) in enumerate(pairs_of_names) if a != b]
    left, right = {i for i, _ in stay}, {j for _, j in stay}
    edits += [Remove(field, i, _data(item)) for i, item in enumerate(before) if i not in left]
    edits += [Insert(field, j, _data(item)) for j, item in enumerate(after) if j not in right]
    return edits


def _data(item: Any) -> bytes:
    data: bytes = item.SerializeToString(deterministic=True)
    return data


def _equals(item: Any, data: bytes) -> bool:
    """Whether an item is the one that these bytes are, with or without its weights."""
    if _data(item) == data:
        return True
    other = type(item).FromString(data)
    return (whole.is_light(item) or whole.is_light(other)) and whole.digest(item) == whole.digest(other)


def _content(item: Any) -> bytes:
    """What is equal for equal items: their bytes, or a digest of many, because weights would be in memory again."""
    if isinstance(item, onnx.TensorProto) and whole.is_light(item):
        return whole.digest(item)
    data: bytes = item.SerializeToString(deterministic=True)
    return data if len(data) < LARGE else hashlib.sha256(data).digest()


def _only_inputs(a: onnx.NodeProto, b: onnx.NodeProto) -> bool:
    if len(a.input) != len(b.input):
        return False
    stripped = []
    for node in (a, b):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.ClearField("input")
        stripped.append(copy.SerializeToString(deterministic=True))
    return stripped[0] == stripped[1]


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

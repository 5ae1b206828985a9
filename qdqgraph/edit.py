"""Changes as values: what a rule may propose, and the reversible edits a plan is made of.

A rule proposes a `Rewire`, a `PlacePair`, a `SetPair` or a `Graft`; they name tensors and node inputs only, never
positions, so that the proposals of many rules can be applied in one round. What a whole repair did to the file is then
written down as `Insert`, `Remove`, `SetInput` and `SetVersion`: each carries old and new, so it can be checked before
it is applied and undone exactly.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper

from .errors import PlanError

NodeInput = tuple[str, int]
"""A node's key (its first output) and the index of one of its inputs."""


@dataclass(frozen=True)
class Rewire:
    """Let a node input read another existing tensor. Q, DQ and constants that nothing reads any more go."""

    reader: NodeInput
    tensor: str


@dataclass(frozen=True)
class PlacePair:
    """Let readers of a tensor read it through one pair: its first one where it has one, else a new one behind its
    producer, with the scale of its group.

    Attributes:
        tensor: where the pair stands.
        readers: node inputs that read it raw today.
        like: the site whose scale the pair takes; the tensor itself by default.
        agree: tensors behind: every Q that their raw values reach must have that scale, or the pair would round what
            is not rounded so today.
        calibrate: no scale in the graph fits the tensor, its own must come from data; a repair of the file leaves it.
    """

    tensor: str
    readers: tuple[NodeInput, ...]
    like: str = ""
    agree: tuple[str, ...] = ()
    calibrate: bool = False


@dataclass(frozen=True)
class Constant:
    """An array as a value that can be compared: a serialized TensorProto without a name."""

    data: bytes

    @classmethod
    def of(cls, array: np.ndarray) -> Constant:
        """The constant that holds this array."""
        return cls(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape)).SerializeToString())

    @property
    def array(self) -> np.ndarray:
        """The array again."""
        return numpy_helper.to_array(onnx.TensorProto.FromString(self.data))


@dataclass(frozen=True)
class SetPair:
    """Write the parameters of a pair anew.

    Attributes:
        nodes: keys of the pair's QuantizeLinear and DequantizeLinears.
        scale, zero_point: of shape [] or, per channel, [C].
        axis: the channel axis; None where there is one scale.
        integers: what the DequantizeLinears read from now on, where the file holds integer weights and they change.
    """

    nodes: tuple[str, ...]
    scale: Constant
    zero_point: Constant
    axis: int | None = None
    integers: Constant | None = None


@dataclass(frozen=True)
class Graft:
    """Put nodes in the place of others that make the same tensors.

    Attributes:
        nodes: the new nodes as serialized NodeProtos; what the graph has already they name, the rest is `fresh`.
        new: which of them, by index, no node of the graph goes on as.
        fresh: names that the new nodes make for each other; made unique when they are written.
        replaced: keys of the nodes whose place they take.
        unread: keys of nodes that go too, where nothing reads them any more.
        rewires: readers that go over to another tensor.
        reads: every node input that the replacement relies on.
    """

    nodes: tuple[bytes, ...]
    new: tuple[int, ...]
    fresh: tuple[str, ...]
    replaced: tuple[str, ...]
    unread: tuple[str, ...]
    rewires: tuple[Rewire, ...]
    reads: tuple[NodeInput, ...]


Proposal = Rewire | PlacePair | SetPair | Graft


def touched(proposal: Proposal) -> tuple[NodeInput, ...]:
    """The node inputs that a proposal changes, or relies on while it replaces nodes."""
    if isinstance(proposal, Rewire):
        return (proposal.reader,)
    if isinstance(proposal, PlacePair):
        return proposal.readers
    if isinstance(proposal, Graft):
        return tuple(dict.fromkeys((*proposal.reads, *(r.reader for r in proposal.rewires))))
    return tuple((node, index) for node in proposal.nodes for index in (0, 1, 2))


Field = Literal["node", "initializer", "value_info", "input", "output", "metadata_props", "opset_import"]
"""The repeated fields of a model that a plan may change; the last two are the model's own, the others its graph's."""

ITEM: Mapping[Field, type[Any]] = {
    "node": onnx.NodeProto,
    "initializer": onnx.TensorProto,
    "value_info": onnx.ValueInfoProto,
    "input": onnx.ValueInfoProto,
    "output": onnx.ValueInfoProto,
    "metadata_props": onnx.StringStringEntryProto,
    "opset_import": onnx.OperatorSetIdProto,
}
NAMED_BY: Mapping[Field, str] = {"metadata_props": "key", "opset_import": "domain"}
"""The attribute that names an item of a field, where it is not `name`."""


@dataclass(frozen=True)
class Insert:
    """An item that is new in the result, at its place there."""

    field: Field
    index: int
    data: bytes

    def inverse(self) -> Remove:
        """The edit that undoes this one."""
        return Remove(self.field, self.index, self.data)


@dataclass(frozen=True)
class Remove:
    """An item that is gone from the base, from its place there."""

    field: Field
    index: int
    data: bytes

    def inverse(self) -> Insert:
        """The edit that undoes this one."""
        return Insert(self.field, self.index, self.data)


@dataclass(frozen=True)
class SetInput:
    """One input of a node that stays."""

    node: str
    index: int
    old: str
    new: str

    def inverse(self) -> SetInput:
        """The edit that undoes this one."""
        return SetInput(self.node, self.index, self.new, self.old)


@dataclass(frozen=True)
class SetVersion:
    """The model's ir_version."""

    old: int
    new: int

    def inverse(self) -> SetVersion:
        """The edit that undoes this one."""
        return SetVersion(self.new, self.old)


Edit = Insert | Remove | SetInput | SetVersion


def describe(edit: Edit) -> str:
    """One line for people, in ONNX text where the edit holds an item."""
    if isinstance(edit, SetInput):
        return f"~ {edit.node}: input {edit.index}: {edit.old} -> {edit.new}"
    if isinstance(edit, SetVersion):
        return f"~ ir_version: {edit.old} -> {edit.new}"
    sign = "+" if isinstance(edit, Insert) else "-"
    return f"{sign} {_text(edit.field, edit.data)}"


def _text(field: Field, data: bytes) -> str:
    if field == "node":
        return " ".join(onnx.printer.to_text(onnx.NodeProto.FromString(data)).split())
    if field == "initializer":
        tensor = onnx.TensorProto.FromString(data)
        array = onnx.numpy_helper.to_array(tensor) if not tensor.external_data else None
        shown = f" = {array.reshape(-1)[0]:.9g}" if array is not None and array.size == 1 else ""
        return f"initializer {tensor.name} {onnx.TensorProto.DataType.Name(tensor.data_type)}{list(tensor.dims)}{shown}"
    if field == "metadata_props":
        entry = onnx.StringStringEntryProto.FromString(data)
        return f"metadata {entry.key} = {entry.value}"
    if field == "opset_import":
        opset = onnx.OperatorSetIdProto.FromString(data)
        return f"opset {opset.domain or 'ai.onnx'} {opset.version}"
    return f"{field} {onnx.helper.printable_value_info(onnx.ValueInfoProto.FromString(data)).lstrip('%')}"


def to_json(edit: Edit) -> dict[str, Any]:
    """The edit as JSON; items as base64 of their protobuf, with their text for people."""
    if isinstance(edit, SetInput):
        return {"edit": "set_input", "node": edit.node, "index": edit.index, "old": edit.old, "new": edit.new}
    if isinstance(edit, SetVersion):
        return {"edit": "set_version", "old": edit.old, "new": edit.new}
    kind = "insert" if isinstance(edit, Insert) else "remove"
    data = base64.b64encode(edit.data).decode()
    return {"edit": kind, "field": edit.field, "index": edit.index, "text": _text(edit.field, edit.data), "data": data}


def from_json(entry: Any) -> Edit:
    """Reads one edit.

    Raises:
        PlanError: the entry is not of the form that `to_json` writes.
    """
    try:
        kind = entry["edit"]
        if kind == "set_input":
            return SetInput(str(entry["node"]), int(entry["index"]), str(entry["old"]), str(entry["new"]))
        if kind == "set_version":
            return SetVersion(int(entry["old"]), int(entry["new"]))
        field = entry["field"]
        if kind in ("insert", "remove") and field in ITEM:
            data = base64.b64decode(entry["data"], validate=True)
            ITEM[field].FromString(data)
            return (Insert if kind == "insert" else Remove)(field, int(entry["index"]), data)
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"the plan is damaged: {type(error).__name__}: {error}") from error
    except Exception as error:  # protobuf's DecodeError derives from Exception alone
        raise PlanError(f"the plan is damaged: an item is no valid protobuf: {error}") from error
    raise PlanError(f"the plan is damaged: unknown edit {entry!r:.80}")

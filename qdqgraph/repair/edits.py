"""The reversible edits of a plan: `Insert`, `Remove`, `SetInput` and `SetVersion`.

Each edit contains the old and the new value, so it can be checked before it is applied, and undone exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import onnx

from ..model.text import node_text

Field = Literal["node", "initializer", "value_info", "input", "output", "metadata_props", "opset_import", "functions"]
"""The repeated fields that a plan may change."""
OF_MODEL = ("metadata_props", "opset_import", "functions")
"""Those of them that belong to the model; the others belong to its graph."""

ITEM: Mapping[Field, type[Any]] = {
    "node": onnx.NodeProto,
    "initializer": onnx.TensorProto,
    "value_info": onnx.ValueInfoProto,
    "input": onnx.ValueInfoProto,
    "output": onnx.ValueInfoProto,
    "metadata_props": onnx.StringStringEntryProto,
    "opset_import": onnx.OperatorSetIdProto,
    "functions": onnx.FunctionProto,
}
NAMED_BY: Mapping[Field, str] = {"metadata_props": "key", "opset_import": "domain"}
"""The attribute that identifies an item of a field, if it is not `name`."""


@dataclass(frozen=True)
class Insert:
    """An item that is new in the result.

    Attributes:
        field: the repeated field.
        index: the position of the item in the result.
        data: the serialized item.
    """

    field: Field
    index: int
    data: bytes

    def inverse(self) -> Remove:
        """Returns the edit that undoes this one."""
        return Remove(self.field, self.index, self.data)


@dataclass(frozen=True)
class Remove:
    """An item that is removed from the base.

    Attributes:
        field: the repeated field.
        index: the position of the item in the base.
        data: the serialized item.
    """

    field: Field
    index: int
    data: bytes

    def inverse(self) -> Insert:
        """Returns the edit that undoes this one."""
        return Insert(self.field, self.index, self.data)


@dataclass(frozen=True)
class SetInput:
    """A changed input of a node that stays.

    Attributes:
        node: the key of the node (its first output).
        index: the input.
        old: the tensor in the base.
        new: the tensor in the result.
    """

    node: str
    index: int
    old: str
    new: str

    def inverse(self) -> SetInput:
        """Returns the edit that undoes this one."""
        return SetInput(self.node, self.index, self.new, self.old)


@dataclass(frozen=True)
class SetVersion:
    """A changed ir_version of the model."""

    old: int
    new: int

    def inverse(self) -> SetVersion:
        """Returns the edit that undoes this one."""
        return SetVersion(self.new, self.old)


Edit = Insert | Remove | SetInput | SetVersion


def describe(edit: Edit) -> str:
    """Returns an edit as one line for messages, with its item as `item_text`."""
    if isinstance(edit, SetInput):
        return f"~ {edit.node}: input {edit.index}: {edit.old} -> {edit.new}"
    if isinstance(edit, SetVersion):
        return f"~ ir_version: {edit.old} -> {edit.new}"
    sign = "+" if isinstance(edit, Insert) else "-"
    return f"{sign} {item_text(edit.field, edit.data)}"


def item_text(field: Field, data: bytes) -> str:
    """Returns an item as one line for messages: a node as ONNX text, an initializer with its value if scalar."""
    if field == "node":
        return node_text(onnx.NodeProto.FromString(data))
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
    if field == "functions":
        function = onnx.FunctionProto.FromString(data)
        return f"function {function.domain}.{function.name} of {len(function.node)} nodes"
    return f"{field} {onnx.helper.printable_value_info(onnx.ValueInfoProto.FromString(data)).lstrip('%')}"

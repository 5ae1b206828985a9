"""The JSON format of a plan: one object per edit, with its kind in the key `edit`; items as base64 of the protobuf."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Meta, Struct
from onnx import TensorProto

from ..errors import PlanError, field_fault
from ..model.inline import whole
from .edits import ITEM, Edit, Field, Insert, Remove, SetInput, SetVersion, item_text

FORMAT: Final = 1
"""Version of the JSON format; `read_plan` rejects other versions."""
SCHEMA = Path(__file__).with_name("plan.schema.json")

Index = Annotated[int, Meta(ge=0)]


class Item(Struct, frozen=True, kw_only=True, tag_field="edit"):
    """An item of a repeated field of the model or of its graph"""

    field: Field
    index: Index
    text: Annotated[str, Meta(description="The item as text, for readers only; ignored when the plan is applied.")] = ""
    data: Annotated[bytes, Meta(description="The item as serialized protobuf.")]


class Inserted(Item, frozen=True, tag="insert"):
    """An item that is new in the result; `index` is its position there"""


class Removed(Item, frozen=True, tag="remove"):
    """An item that is removed from the base; `index` is its position there"""


class InputSet(Struct, frozen=True, tag_field="edit", tag="set_input"):
    """A changed input of a node that stays"""

    node: str
    index: Index
    old: str
    new: str


class VersionSet(Struct, frozen=True, tag_field="edit", tag="set_version"):
    """A changed ir_version"""

    old: int
    new: int


Entry = Inserted | Removed | InputSet | VersionSet


class PlanForm(Struct, frozen=True):
    """A qdqgraph plan: the edits of a repair"""

    format: Literal[1]
    base_sha256: Annotated[str, Meta(description="Digest (`qdqgraph.repair.plan.digest`) of the model before.")]
    result_sha256: Annotated[str, Meta(description="Digest of the model after.")]
    edits: tuple[Entry, ...]


def plan_blocks(base: str, result: str, edits: Sequence[Edit]) -> Iterator[bytes]:
    """Yields a plan as JSON text in UTF-8; equal plans give equal text. Arguments: the fields of `Plan`."""
    form = msgspec.to_builtins(PlanForm(FORMAT, base, result, tuple(_entry(edit) for edit in edits)))
    mark, weights = secrets.token_hex(16), list[TensorProto]()
    for entry, edit in zip(form["edits"], edits, strict=True):
        if (tensor := _light(edit)) is not None:
            entry["data"] = mark
            weights.append(tensor)
    first, *others = json.dumps(form, indent=1).split(mark)
    yield first.encode()
    for tensor, text in zip(weights, others, strict=True):
        yield from _base64(whole.blocks(tensor))
        yield text.encode()
    yield b"\n"


def _light(edit: Edit) -> TensorProto | None:
    """The tensor of an edit, if its bytes are not in the edit."""
    if not isinstance(edit, Insert | Remove) or edit.field != "initializer":
        return None
    tensor = TensorProto.FromString(edit.data)
    return tensor if whole.is_light(tensor) else None


def _base64(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Bytes as one text in base64, in blocks."""
    left = b""
    for block in blocks:
        data = left + block
        end = len(data) - len(data) % 3
        left = data[end:]
        yield base64.b64encode(memoryview(data)[:end])
    yield base64.b64encode(left)


def read_plan(text: str) -> tuple[str, str, tuple[Edit, ...]]:
    """Returns the fields of `Plan` in a text that `plan_blocks` wrote.

    Raises:
        PlanError: the text is not JSON, has another format, or a field is invalid; the message names the field.
    """
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        fault = "nested too deeply" if isinstance(error, RecursionError) else error
        raise PlanError(f"the plan is not valid JSON: {fault}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("edits"), list):
        raise PlanError(f"this is not a plan of format {FORMAT}; make one with: qdqgraph fix MODEL --plan FILE")
    try:
        form = msgspec.convert(content, PlanForm)
    except msgspec.ValidationError as error:
        raise PlanError(f"the plan is damaged: {field_fault(error)}") from error
    return form.base_sha256, form.result_sha256, tuple(edit_of(index, entry) for index, entry in enumerate(form.edits))


def _entry(edit: Edit) -> Entry:
    match edit:
        case Insert(field, index, data):
            return Inserted(field=field, index=index, text=item_text(field, data), data=data)
        case Remove(field, index, data):
            return Removed(field=field, index=index, text=item_text(field, data), data=data)
        case SetInput(node, index, old, new):
            return InputSet(node, index, old, new)
        case SetVersion(old, new):
            return VersionSet(old, new)


def edit_of(place: int, entry: Entry) -> Edit:
    """The edit of an entry.

    Args:
        place: the index of the entry.
        entry: the entry.

    Raises:
        PlanError: its data are not an item of its field.
    """
    match entry:
        case InputSet(node, index, old, new):
            return SetInput(node, index, old, new)
        case VersionSet(old, new):
            return SetVersion(old, new)
    try:
        ITEM[entry.field].FromString(entry.data)
    except DecodeError as error:
        what = ITEM[entry.field].__name__
        raise PlanError(f"the plan is damaged: edits[{place}].data: this is not a valid {what}") from error
    return (Insert if isinstance(entry, Inserted) else Remove)(entry.field, entry.index, entry.data)

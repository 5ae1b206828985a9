"""`light_plan`: the edits of a large plan, without its weights in memory."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Literal

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Raw, Struct
from onnx import TensorProto

from ..errors import PlanError
from ..model.inline.references import opened
from ..model.skeleton import LIMIT, PLAIN
from ..model.writing.spill import Spill
from .edits import Edit, Insert, Remove
from .plan_file import Entry, edit_of


class _Form(Struct, frozen=True):
    """`PlanForm`, with the edits as they are in the file."""

    format: Literal[1]
    base_sha256: str
    result_sha256: str
    edits: list[Raw]


def light_plan(path: Path, folder: Path) -> tuple[str, str, tuple[Edit, ...]] | None:
    """Reads what `plan_file.plan_blocks` wrote; large weights are then references to a temporary file.

    Args:
        path: the file.
        folder: where the temporary file is.

    Returns:
        As `plan_file.read_plan`. None outside `inline.references.referencing`, and if the file is small or damaged: the
        usual way then reads it, and says what is wrong.

    Raises:
        OSError: the file cannot be read.
    """
    files = opened()
    if files is None or path.stat().st_size < LIMIT:
        return None
    spill = Spill(folder, hidden=False, files=files)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _read(data, spill)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, PlanError, DecodeError):
            return None


def _read(data: mmap.mmap, spill: Spill) -> tuple[str, str, tuple[Edit, ...]]:
    form = msgspec.json.decode(data, type=_Form)
    edits = tuple(_edit(place, raw, spill) for place, raw in enumerate(form.edits))
    return form.base_sha256, form.result_sha256, edits


def _edit(place: int, raw: Raw, spill: Spill) -> Edit:
    edit = edit_of(place, msgspec.json.decode(raw, type=Entry))
    if not isinstance(edit, Insert | Remove) or edit.field != "initializer":
        return edit
    tensor = TensorProto.FromString(edit.data)
    plain = not {field.name for field, _ in tensor.ListFields()} - PLAIN and not tensor.data_location
    if not plain or (light := spill.moved(tensor)) is tensor:
        return edit
    return type(edit)(edit.field, edit.index, light.SerializeToString(deterministic=True))

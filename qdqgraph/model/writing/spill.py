"""`spilling`: while a call runs, new weights go to a file instead of staying in memory.

Only for models whose weights are in a file. A tensor keeps its bytes there, and the model contains where they are, as
for any external data; so whatever reads external data reads them. Results of models with external data have external
data too: the file is beside the model, has a hidden name, is locked, and is removed at the end; `writing.models` copies
what the result uses to a file of its own. If the result contains its new weights, they are references to the file
(`inline`): of a model that consists of references, and with a plan.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..constants import array_of
from ..external import external_tensors
from ..inline.references import Files, StoredFile, opened, refer
from ..inline.whole import is_light
from ..protos import copy_fields
from . import steps
from .leftovers import recover

LARGE = 1 << 16
"""Bytes from which on a new tensor is a weight rather than a scale, and goes to the file."""
NAMED = 4
"""The first IR version whose initializers need not be inputs; before it, new constants are nodes."""


@dataclass
class Spill:
    """The file of one call.

    Attributes:
        folder: the folder of the model's external data.
        location: the name of the file.
        hidden: the file has a name, and is removed at the end; otherwise it ends with the command.
        files: what makes references of its tensors; None if they have external data.
    """

    folder: Path
    location: str = field(default_factory=lambda: f".weights.qdqgraph-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    hidden: bool = True
    files: Files | None = None
    _places: dict[bytes, int] = field(default_factory=dict)
    _size: int = 0
    _handle: int | None = None
    _full: bool = False

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.location

    def moved(self, tensor: TensorProto) -> TensorProto:
        """Returns a tensor whose bytes are in the file, once for equal bytes; the tensor itself if it is small, or if
        the folder or the disk does not take them."""
        data = tensor.raw_data
        if len(data) < LARGE or self._full:
            return tensor
        digest = hashlib.sha256(data).digest()
        try:
            if digest not in self._places:
                self._append(memoryview(data))
                self._places[digest] = self._size - len(data)
        except OSError:
            self._full = True
            return tensor
        light = TensorProto()
        copy_fields(tensor, light, besides="raw_data")  # protobuf keeps the memory of cleared bytes
        refer(light, self.location, self._places[digest], len(data))
        return light

    def _append(self, data: memoryview) -> None:
        if self._handle is None:
            self._handle = self._created()
            if self.files is not None:
                self.files.add(StoredFile(str(self.path), self._handle), self.location)
        os.lseek(self._handle, self._size, os.SEEK_SET)
        left = data
        while left:
            left = left[steps.write(self._handle, left) :]
        self._size += len(data)

    def _created(self) -> int:
        if self.hidden:
            recover([self.folder])
            return steps.create(self.path)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            return os.dup(file.fileno())

    def close(self) -> None:
        """Removes the file; references to it stay readable until the end of the command."""
        if self._handle is None:
            return
        if self.files is None:
            os.close(self._handle)
        if self.hidden:
            steps.remove(self.path)


_CURRENT: ContextVar[Spill | None] = ContextVar("spill", default=None)


@contextmanager
def spilling(
    model: onnx.ModelProto, folder: Path, output: str | os.PathLike[str] | None, *, plan: bool = False
) -> Iterator[None]:
    """Lets `tensor_of` move large tensors to a file, until the end of the context.

    Args:
        model: the model that a call changes; one with its weights in memory keeps new weights there too.
        folder: the folder of its external data.
        output: the file that is written; None if none is, and what a call returns must not depend on a file that is
            gone. If no file for weights can be created in its folder, or beside external data, they stay in memory.
        plan: a plan is written as well; it contains the new weights, and so does the result.
    """
    spill = _spill(model, folder, None if output is None else Path(output), plan)
    if spill is None or model.ir_version < NAMED or _CURRENT.get() is not None:
        yield
        return
    token = _CURRENT.set(spill)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        spill.close()


def _spill(model: onnx.ModelProto, folder: Path, output: Path | None, plan: bool) -> Spill | None:
    """The file for the new weights of a call; None if they stay in memory."""
    files = opened()
    if is_light(model):
        return Spill(Path(tempfile.gettempdir()) if output is None else output.parent, hidden=False, files=files)
    if output is None or next(external_tensors(model), None) is None or (plan and files is None):
        return None
    return Spill(folder, files=files if plan else None)


def spilled() -> Spill | None:
    """Returns the file of the call that runs; None if new weights stay in memory."""
    return _CURRENT.get()


def tensor_of(array: np.ndarray, name: str = "") -> TensorProto:
    """Returns the tensor of an array, as `onnx.numpy_helper.from_array`; a large one has external data within
    `spilling`."""
    tensor = numpy_helper.from_array(array, name or None)
    return tensor if (spill := _CURRENT.get()) is None else spill.moved(tensor)


def value_of(tensor: TensorProto) -> np.ndarray:
    """Returns the array of a tensor that `tensor_of` made.

    Raises:
        ValueError: its data cannot be read.
    """
    spill = _CURRENT.get()
    array = array_of(tensor, Path() if spill is None else spill.folder)
    if array is None:
        raise ValueError(f"the data of the tensor {tensor.name!r} cannot be read")
    return array

"""`skeleton`: a model file without its large weights in memory."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from .external import tensors
from .inline.references import Files, StoredFile, opened, refer, times_of
from .inline.wire import MODEL, IrregularError, Splice

LIMIT = 1 << 24
"""Bytes of a file from which on its weights stay in it."""
LARGE = 1 << 16
"""Bytes of a tensor from which on it is a weight rather than a scale."""
AHEAD = 1 << 12
"""Bytes that are read at once between two weights."""
STEPS = 1 << 22
"""Bytes that are looked at one by one; a file of so many small fields is read faster in the usual way."""
MOST = 64
"""Files that are kept open; systems allow a process 256 or more."""
PLAIN = frozenset({"name", "dims", "data_type", "raw_data", "doc_string", "metadata_props", "data_location"})
"""The fields of a tensor that may be a reference."""
Part = tuple[int, int]
"""Where bytes begin and end."""


def skeleton(path: Path) -> onnx.ModelProto | None:
    """Reads a model whose large initializers are references to its file.

    Returns:
        None if there is no need, or no way: the file is small, or has no large raw data in initializers of its main
        graph, or it has external data, or many files are open, or protobuf or onnx may not accept it. The usual way
        then reads it, and says what is wrong.

    Raises:
        OSError: the file cannot be read.
    """
    files = opened()
    if files is None or len(files.by_location) >= MOST or path.stat().st_size < LIMIT:
        return None
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        times = times_of(handle)
        found = _light(handle)
        if found is not None and _referred(*found, StoredFile(str(path), handle, times), files):
            handle = -1
            return found[0]
        return None
    finally:
        if handle >= 0:
            os.close(handle)


def without_weights(path: Path) -> onnx.ModelProto | None:
    """Reads a model in which the data of large initializers are missing; None as `skeleton`, except for external data.

    Raises:
        OSError: the file cannot be read.
    """
    if path.stat().st_size < LIMIT:
        return None
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = _light(handle)
    finally:
        os.close(handle)
    return None if found is None else found[0]


def _light(handle: int) -> tuple[onnx.ModelProto, dict[bytes, Part]] | None:
    """A model with marks in place of large data, and the data by their marks; None if there are none, or the file is
    irregular."""
    token, parts = secrets.token_bytes(16), dict[bytes, Part]()

    def replace(start: int, stop: int) -> bytes:
        mark = token + len(parts).to_bytes(8, "little")
        parts[mark] = start, stop
        return mark

    try:
        own = Splice(_Window(handle), lambda start, stop: stop - start >= LARGE, replace)
        model = onnx.ModelProto.FromString(b"".join(own.pieces(MODEL)))
    except (IrregularError, DecodeError):
        return None
    return (model, parts) if parts else None


class _Window:
    """The bytes of an open file, of which few are in memory. It is not mapped: a file that another program cuts while
    it is mapped ends the process."""

    def __init__(self, handle: int) -> None:
        self.handle, self.size = handle, os.fstat(handle).st_size
        self.start, self.data, self.steps = 0, b"", 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: int) -> int:
        self.steps += 1
        if not self.start <= place < self.start + len(self.data):
            self.start, self.data = place, os.pread(self.handle, AHEAD, place)
            if not self.data or self.steps > STEPS:
                raise IrregularError
        return self.data[place - self.start]

    def cut(self, start: int, stop: int) -> bytes:
        found = bytearray()
        while start + len(found) < stop:
            block = os.pread(self.handle, stop - start - len(found), start + len(found))
            if not block:
                raise IrregularError
            found += block
        return bytes(found)


def _referred(model: onnx.ModelProto, parts: dict[bytes, Part], file: StoredFile, files: Files) -> bool:
    """Makes references of the tensors with marks; returns whether each mark is in one tensor of the usual form."""
    marked = [(tensor, mark) for tensor in model.graph.initializer if (mark := tensor.raw_data) in parts]
    if sorted(mark for _, mark in marked) != sorted(parts):
        return False
    if any({field.name for field, _ in tensor.ListFields()} - PLAIN for tensor, _ in marked):
        return False
    if any(tensor.data_location != TensorProto.DEFAULT for tensor in tensors(model)):
        return False
    location = files.add(file)
    for tensor, mark in marked:
        start, stop = parts[mark]
        refer(tensor, location, start, stop - start)
    return True

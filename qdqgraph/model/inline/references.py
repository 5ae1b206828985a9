"""`reference`: a tensor whose bytes are in a file, although the model contains them.

In memory it looks like a tensor with external data. Its location is a random name that belongs to this process, so no
file can contain one; outside `referencing` there are none.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import ModelError, reason

if TYPE_CHECKING:  # the command line opens the context before it knows whether a command needs onnx
    import onnx

BLOCK = 1 << 20
"""Bytes that are read at once."""
DECLARED = "declared"
"""The entry of a tensor that the file declares as stored inside, with `data_location: DEFAULT`."""
Times = tuple[int, int]


@dataclass(eq=False)
class StoredFile:
    """An open file that contains bytes of tensors. It stays readable when another file gets its name.

    Attributes:
        name: what to call it in messages.
        handle: its descriptor.
        times: its size and time of change when it was read; None for one that this process writes.
    """

    name: str
    handle: int
    times: Times | None = None

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        """Yields a part of the file.

        Raises:
            ModelError: the file was changed, or cannot be read.
        """
        end = offset + length
        try:
            while offset < end:
                block = os.pread(self.handle, min(BLOCK, end - offset), offset)
                if not block:
                    raise ModelError(f"{self.name} became shorter while it was read: run the command again")
                offset += len(block)
                yield block
            if self.times is not None and times_of(self.handle) != self.times:
                raise ModelError(f"{self.name} was changed while it was read: run the command again")
        except OSError as error:
            raise ModelError(f"{self.name}: cannot be read: {reason(error)}") from error


def times_of(handle: int) -> Times:
    """Returns the size of an open file and when its content last changed, in nanoseconds."""
    found = os.fstat(handle)
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Reference:
    """The bytes of a tensor in a file.

    Attributes:
        file: the file.
        offset: where they begin.
        length: how many there are.
        declared: whether the model sets `data_location` although its value is the default.
    """

    file: StoredFile
    offset: int
    length: int
    declared: bool = False

    def __len__(self) -> int:
        return self.length

    def blocks(self) -> Iterator[bytes]:
        """Yields the bytes; raises as `StoredFile.blocks`."""
        return self.file.blocks(self.offset, self.length)

    def read(self) -> bytearray:
        """Returns the bytes; raises as `StoredFile.blocks`."""
        found, end = bytearray(self.length), 0
        for block in self.blocks():
            found[end : end + len(block)] = block
            end += len(block)
        return found


@dataclass(eq=False)
class Files:
    """The open files of one command or call, by the locations of their tensors.

    Attributes:
        by_location: the files.
        command: they stay open until the end of the command that runs, so what its calls return may have references.
    """

    command: bool = False
    by_location: dict[str, StoredFile] = field(default_factory=dict)

    def add(self, file: StoredFile, location: str = "") -> str:
        """Keeps a file open until the end; returns the location of its tensors, a new one by default."""
        location = location or f".inside.{secrets.token_hex(16)}"
        self.by_location[location] = file
        return location

    def close(self) -> None:
        """Closes the files."""
        for file in self.by_location.values():
            os.close(file.handle)
        self.by_location.clear()


_OPEN: ContextVar[Files | None] = ContextVar("references", default=None)


@contextmanager
def referencing(files: Files | None = None, *, command: bool = False) -> Iterator[None]:
    """Lets models that are read contain references, until the end of the context; outside it they are of no use.

    Args:
        files: the files of the references, which stay open; new ones, closed at the end, by default.
        command: as in `Files`, for new ones.
    """
    own = Files(command) if files is None else files
    token = _OPEN.set(own)
    try:
        yield
    finally:
        _OPEN.reset(token)
        if files is None:
            own.close()


def in_command() -> bool:
    """Returns whether what a call returns may have references; see `Files.command`."""
    files = _OPEN.get()
    return files is not None and files.command


def opened() -> Files | None:
    """Returns the files of the command that runs; None if models contain no references."""
    return _OPEN.get()


def reference(tensor: onnx.TensorProto) -> Reference | None:
    """Returns where the bytes of a tensor are; None if it is no reference."""
    files = _OPEN.get()
    if files is None or not files.by_location or tensor.data_location != tensor.EXTERNAL:
        return None
    try:
        entries = {entry.key: entry.value for entry in tensor.external_data}
    except UnicodeDecodeError:  # damaged
        return None
    file = files.by_location.get(entries.get("location", ""))
    if file is None:
        return None
    return Reference(file, int(entries["offset"]), int(entries["length"]), DECLARED in entries)


def refer(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Makes a tensor a reference, in place; its own bytes are removed."""
    declared = tensor.HasField("data_location")
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    if declared:
        tensor.external_data.add(key=DECLARED, value="1")


def store(tensor: onnx.TensorProto, data: bytes, declared: bool = False) -> None:
    """Makes a reference a tensor with its own bytes, in place."""
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    if declared:
        tensor.data_location = tensor.DEFAULT
    tensor.raw_data = data


def has_references(model: onnx.ModelProto) -> bool:
    """Returns whether a tensor of a model is a reference; only initializers of the main graph are."""
    files = _OPEN.get()
    if files is None or not files.by_location:
        return False
    return any(reference(tensor) is not None for tensor in model.graph.initializer)

"""`users`: the models whose external data a file contains."""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ..external import locations
from ..skeleton import without_weights

FIRST = b"\x08"
"""The first byte of most ONNX files: the key of ir_version, field 1."""


def users(data: Path, besides: Collection[Path] = ()) -> tuple[Path, ...]:
    """Returns the models that store tensors in a file.

    The search covers the folder of the file, and the .onnx files of the folders above it, because a location leads only
    down. A model that cannot be parsed counts if it contains the name of the file.

    Args:
        data: the file.
        besides: models that do not count.
    """
    data = data.resolve()
    return tuple(path for path in _models(data) if path not in besides and _mentions(path, data) and _uses(path, data))


def _models(data: Path) -> Iterator[Path]:
    for folder in data.parents:
        try:
            with os.scandir(folder) as entries:
                files = sorted(Path(entry.path) for entry in entries if entry.is_file())
        except OSError:
            continue
        yield from (
            path
            for path in files
            if path != data and (path.suffix.lower() == ".onnx" or (folder == data.parent and _begins(path)))
        )


def _begins(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(1) == FIRST
    except OSError:
        return False


def _mentions(path: Path, data: Path) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(os.fsencode(data.name)) >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def _uses(path: Path, data: Path) -> bool:
    try:
        places = locations_of(path)
    except (OSError, DecodeError):
        return True
    return any(same_file(path.parent / place, data) for place in places)


def locations_of(path: Path) -> tuple[str, ...]:
    """Returns the locations of the external data of a model file.

    Raises:
        OSError: it cannot be read.
        DecodeError: it is not an ONNX model.
    """
    model = without_weights(path)
    return locations(onnx.ModelProto.FromString(path.read_bytes()) if model is None else model)


def same_file(a: Path, b: Path) -> bool:
    """Returns whether two paths lead to one file, or would if it existed, in a file system of either case."""
    try:
        return a.samefile(b)
    except OSError:
        return a.name.casefold() == b.name.casefold() and a.parent.resolve() == b.parent.resolve()

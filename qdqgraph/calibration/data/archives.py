"""Arrays in .npz and .npy files, read a few rows at a time."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...errors import ModelError
from .form import Input
from .samples import Piece

FAULTS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged archive raises: of an encrypted or deeply nested one, RuntimeError; of a damaged
header of NumPy, SyntaxError and TokenError too."""
LARGE, RATIO = 1 << 28, 200
"""A compressed array of more bytes, and compressed more than that, is refused: measured data compress 2 to 20 times."""
AT_ONCE = 4 << 30
"""The most bytes of an array that are read at once: those of one sample, or of an array that is stored by columns."""


def read_npz(path: Path, inputs: tuple[Input, ...]) -> Iterator[Piece]:
    """The arrays of an .npz file, as many rows at a time as one sample of the model has.

    Raises:
        ModelError: the file cannot be read, or does not contain an array for each input.
    """
    with ExitStack() as open_files:
        try:
            archive = open_files.enter_context(zipfile.ZipFile(path))
            members = {n.removesuffix(".npy"): n for n in archive.namelist() if n.endswith(".npy")}
            _refuse_damage(archive)
            _refuse_missing(path, members, inputs)
            for form in inputs:
                _refuse_bomb(archive.getinfo(members[form.name]))
            streams = {i.name: open_files.enter_context(archive.open(members[i.name])) for i in inputs}
            sizes = {i.name: archive.getinfo(members[i.name]).file_size for i in inputs}
            arrays = {i.name: _Rows(streams[i.name], i, sizes[i.name]) for i in inputs}
        except FAULTS as error:
            raise ModelError(f"{path}: not an .npz file of input arrays ({error})") from error
        counts = {rows.samples for rows in arrays.values() if not rows.whole}
        if len(counts) > 1:
            raise ModelError(f"{path}: the arrays contain different numbers of samples: {sorted(counts)}")
        for index in range(max(counts, default=1)):
            try:
                piece = {name: rows.next() for name, rows in arrays.items()}
            except FAULTS as error:
                raise ModelError(f"{path}: damaged: it ends before sample {index + 1} ({error})") from error
            yield f"{path}, sample {index + 1}", piece


def read_npy(path: Path, inputs: tuple[Input, ...]) -> Iterator[Piece]:
    """The array of an .npy file, for a model with one input.

    Raises:
        ModelError: the file cannot be read, or the model has several inputs.
    """
    if len(inputs) != 1:
        names = sorted(i.name for i in inputs)
        raise ModelError(f"{path}: one array, but the model's inputs are {names}: use .npz files with these names")
    try:
        with path.open("rb") as file:
            _header(file, path.stat().st_size, inputs[0].name)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FAULTS as error:
        raise ModelError(f"{path}: not an .npy file of numbers ({error})") from error
    yield str(path), {inputs[0].name: array}


class _Rows:
    """An array in an open file, read from its first row on; whole if it has no rows, or one sample only."""

    def __init__(self, stream: IO[bytes], form: Input, size: int) -> None:
        self.shape, fortran, self.dtype = _header(stream, size, form.name)
        self.stream, self.form = stream, form
        self.whole = form.rows == 0 or len(self.shape) < len(form.dims)
        self.samples = 1 if self.whole else max(1, self.shape[0] // form.rows)
        self.left = 0 if self.whole else self.shape[0]
        self.held: np.ndarray | None = None
        if fortran and not self.whole:
            self.held = self._read(self.shape[::-1]).T
        elif self.whole:
            self.held = self._read(self.shape[::-1]).T if fortran else self._read(self.shape)

    def next(self) -> np.ndarray:
        """The rows of the next sample."""
        if self.whole:
            assert self.held is not None
            return self.held
        rows = min(self.form.rows, self.left)
        if self.held is not None:
            start = self.shape[0] - self.left
            part = self.held[start : start + rows]
        else:
            part = self._read((rows, *self.shape[1:]))
        self.left -= rows
        return part

    def _read(self, shape: tuple[int, ...]) -> np.ndarray:
        count = math.prod(shape)
        if count * self.dtype.itemsize > AT_ONCE:
            raise ValueError(f"{count * self.dtype.itemsize:,} bytes at once; at most {AT_ONCE:,} are read")
        data = self.stream.read(count * self.dtype.itemsize)
        return np.frombuffer(data, self.dtype, count).reshape(shape)


def _refuse_damage(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise ValueError(f"it contains {max(names, key=names.count)!r} more than once")


def _refuse_bomb(member: zipfile.ZipInfo) -> None:
    if member.file_size > LARGE and member.file_size > RATIO * member.compress_size:
        what = f"{member.filename!r} has {member.file_size:,} bytes in {member.compress_size:,}"
        raise ValueError(f"{what}: such arrays are refused; save it with numpy.savez")


def _header(stream: IO[bytes], size: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Reads the header of an .npy file: shape, whether it is stored by columns, and type.

    Raises:
        ValueError: it is none, its array is one of Python objects, or the file has another size than its array.
    """
    version = np.lib.format.read_magic(stream)
    reader: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = reader(stream)
    except (SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"the header of the array of {name!r} is damaged") from error
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    if any(d < 0 for d in shape) or math.prod(shape) * dtype.itemsize + stream.tell() != size:
        raise ValueError(f"the array of {name!r} has shape {shape}, and its data have another size")
    return shape, fortran, dtype


def _refuse_missing(path: Path, members: Mapping[str, str], inputs: tuple[Input, ...]) -> None:
    names = sorted(i.name for i in inputs)
    if set(names) - set(members):
        raise ModelError(f"{path}: contains {sorted(members)}, but the model's inputs are {names}")

"""Rejects outputs that cannot be written, or that would destroy an input, before the work for them starts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx

from ...errors import LINK_LOOP, ModelError, reason
from ..external import external_files
from .users import same_file, users


def refuse_to_overwrite(path: Path, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Rejects an output path that cannot be written, before the work for it starts.

    Args:
        path: the output.
        force: whether an existing file may be replaced.
        inputs: files that are read and must stay.

    Raises:
        ModelError: the folder is missing or not writable, the path is a folder or a device such as /dev/null, the file
            exists and `force` is False, or it is an input or contains external data of a model.
    """
    try:
        _refuse(path, force)
        for file in inputs:
            if same_file(path, file):
                raise ModelError(f"{path} is an input, and would be overwritten: name another file")
        if path.exists() and (readers := users(path)):
            raise ModelError(f"{path} contains external data of {readers[0]}: name another file")
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {reason(error)}") from error
    except RuntimeError as error:
        raise ModelError(f"{path}: {LINK_LOOP}") from error
    except ValueError as error:  # a null character
        raise ModelError(f"{path!r}: not a file name: {error}") from error


def _refuse(path: Path, force: bool) -> None:
    if not path.parent.is_dir():
        raise ModelError(f"{path}: folder {path.parent} does not exist")
    if path.is_dir():
        raise ModelError(f"{path} is a folder; give a file name")
    if _is_descriptor(path) or (path.exists() and not path.is_file()):
        raise ModelError(f"{path} is a device or a pipe; give the name of a regular file")
    if path.exists() and not force:
        raise ModelError(f"{path} exists; use --force (force=True) to overwrite it")


def _is_descriptor(path: Path) -> bool:
    """Whether a path is an open file of a process, as /dev/stdout is."""
    for _ in range(40):
        if str(path.parent.resolve()).startswith("/proc"):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return False


def refuse_collisions(
    model: onnx.ModelProto, folder: Path, source: Path, outputs: Sequence[Path]
) -> Mapping[str, Path]:
    """Rejects outputs that are the external data of the input or of the output, or two of which are one file.

    Paths are compared as files: links, `..`, hard links and the case of letters make no difference.

    Args:
        model: the model that is read.
        folder: the folder that contains its external data.
        source: its file; only the first output may replace it.
        outputs: the model that is written, and the files written with it.

    Returns:
        The files of external data, by location (see `external_files`).

    Raises:
        ModelError: with the two files.
    """
    data = external_files(model, folder)
    for number, path in enumerate(outputs):
        for place, file in data.items():
            if same_file(path, file) or same_file(path, path.parent / place):
                raise ModelError(f"{path} is the name of external data of {source}: name another file")
        if number and same_file(path, source):
            raise ModelError(f"{path} is the model that is read, and would be overwritten: name another file")
        for other in outputs[:number]:
            if same_file(path, other):
                raise ModelError(f"{path} and {other} are one file: name two files")
    return data


def beside(path: Path) -> Path:
    """Returns the folder in which external data of an output are looked for: that of the name, not of a link's target.

    Raises:
        ModelError: the output is a link to another folder; the file system decides there which one a library looks in.
    """
    if path.is_symlink() and path.resolve().parent != path.parent.resolve():
        target = f"{path} is a link to {os.fspath(path.resolve())}"
        raise ModelError(f"{target}, and external data lie beside the model: name the file itself")
    return path.parent

"""Reads model files with clear errors, and writes files atomically."""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ..errors import ModelError, first_line, reason


def read_model(path: Path) -> onnx.ModelProto:
    """Reads a model; external data stay in their files.

    Raises:
        ModelError: the file is missing, unreadable, or not an ONNX model.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(f"{path}: not an ONNX model, or truncated ({error})") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {reason(error)}") from error
    except MemoryError as error:
        raise ModelError(f"{path}: does not fit into memory") from error
    if not model.opset_import or not model.HasField("graph"):
        raise ModelError(f"{path}: not an ONNX model: it has no graph or no opset import")
    return model


def is_canonical(path: Path, model: onnx.ModelProto) -> bool:
    """Returns whether the file equals protobuf's deterministic serialization of the model.

    Only then does an undo restore the file byte for byte.
    """
    return path.read_bytes() == model.SerializeToString(deterministic=True)


def write_model(
    model: onnx.ModelProto, path: Path, source: Path, *, force: bool = False, restored: bool = False
) -> str:
    """Writes a model atomically: to a temporary file, which replaces `path` once onnx.checker has accepted it.

    Args:
        model: the model to write.
        path: the file to write.
        source: the file that the model was read from. External data are copied from its folder if `path` is in
            another folder.
        force: overwrite an existing file.
        restored: the model is an original, which is written also if onnx.checker rejects it.

    Returns:
        A note if onnx.checker rejects the model, but it is restored or its source is rejected as well; "" otherwise.

    Raises:
        ModelError: as `refuse_to_overwrite`; or the file cannot be written, external data are missing, or onnx.checker
            rejects the model.
    """
    note = ""
    refuse_to_overwrite(path, force=force)
    try:
        with _copied(list(_external_copies(model, source.parent, path.parent, force))), whole(path) as temporary:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
            fault = _fault(temporary)
            if fault and not restored and not _fault(source):
                raise ModelError(f"{path}: onnx.checker rejects the repaired model; nothing was written: {fault}")
            what = "rejects the restored original" if restored else f"also rejects the original {source}"
            note = f"onnx.checker {what}: {fault}" if fault else ""
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {reason(error)}") from error
    return note


@contextmanager
def _copied(copies: Iterable[tuple[Path, Path]]) -> Iterator[None]:
    """Copies files, and removes those that are new again if what needs them fails."""
    new: list[Path] = []
    try:
        for data, target in copies:
            target.parent.mkdir(parents=True, exist_ok=True)
            existed = target.exists()
            with whole(target) as temporary:
                shutil.copyfile(data, temporary)
            new += [] if existed else [target]
        yield
    except BaseException:
        for target in new:
            target.unlink(missing_ok=True)
        raise


def _fault(path: Path) -> str:
    """Returns the first line of the onnx.checker error on a file; "" if it accepts the file."""
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        return first_line(error)
    return ""


def refuse_to_overwrite(path: Path, *, force: bool) -> None:
    """Rejects an output path that cannot be written, before the work for it starts.

    Raises:
        ModelError: the folder is missing or not writable, the path is a folder or a device such as /dev/null, or the
            file exists and `force` is False.
    """
    if not path.parent.is_dir():
        raise ModelError(f"{path}: folder {path.parent} does not exist")
    if path.is_dir():
        raise ModelError(f"{path} is a folder; give a file name")
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is a device or a pipe; give the name of a regular file")
    if path.exists() and not force:
        raise ModelError(f"{path} exists; use --force to overwrite it")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_text(text: str, path: Path, *, force: bool = False) -> None:
    """Writes a text file atomically, in UTF-8.

    Raises:
        ModelError: as `refuse_to_overwrite`; or the file cannot be written.
    """
    with writing_text(text, path, force=force):
        pass


@contextmanager
def writing_text(text: str, path: Path, *, force: bool = False) -> Iterator[None]:
    """Writes a text file, which gets its name when the block ends; on an error in the block there is no file.

    Raises:
        ModelError: as `write_text`.
    """
    refuse_to_overwrite(path, force=force)
    try:
        with whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
            yield
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {reason(error)}") from error


def external_files(model: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    """Returns the path of each external data file, by its location as written in the model.

    Raises:
        ModelError: a location is outside the model's folder, or its file is missing or too short.
    """
    found: dict[str, Path] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        path = folder / location
        if Path(location).is_absolute() or ".." in Path(location).parts:
            raise ModelError(f"external data of {tensor.name!r} are outside the model's folder: {location}")
        if not path.is_file():
            raise ModelError(f"external data file {path} of {tensor.name!r} is missing")
        end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        if end > path.stat().st_size:
            raise ModelError(f"external data file {path} is too short for {tensor.name!r}; it may be truncated")
        found[location] = path
    return found


def _external_copies(model: onnx.ModelProto, old: Path, new: Path, force: bool) -> Iterator[tuple[Path, Path]]:
    for location, data in external_files(model, old).items():
        target = new / location
        if target.exists():
            if target.samefile(data) or filecmp.cmp(data, target, shallow=False):
                continue
            if not force:
                raise ModelError(f"{target} exists and differs from {data}; use --force to overwrite it")
        yield data, target


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a temporary file in the same folder; renames it to `path` on success and removes it on an error.

    If `path` is a symbolic link, its target is replaced and the link stays.
    """
    path = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

"""Model files: read with a clear sentence where they are bad, written whole or not at all."""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ..errors import ModelError, reason


def read_model(path: Path) -> onnx.ModelProto:
    """Reads a model; external data stay in their files.

    Raises:
        ModelError: the file is missing, unreadable, or no ONNX model.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ModelError(f"{path}: this is no ONNX model, or it is truncated ({error})") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {reason(error)}") from error
    except MemoryError as error:
        raise ModelError(f"{path}: does not fit into memory") from error
    if not model.opset_import or not model.HasField("graph"):
        raise ModelError(f"{path}: this is no ONNX model: it has no graph or names no opset")
    return model


def is_canonical(path: Path, model: onnx.ModelProto) -> bool:
    """Whether the file is what protobuf writes for the model; only then an undo restores the file to the byte."""
    return path.read_bytes() == model.SerializeToString(deterministic=True)


def write_model(model: onnx.ModelProto, path: Path, source: Path, *, force: bool = False) -> str:
    """Writes a model beside its checked temporary twin: the file appears whole or not at all.

    Args:
        model: what to write.
        path: where to.
        source: the file it was made from; external data are copied from its folder where `path` lies elsewhere.
        force: overwrite an existing file.

    Returns:
        A sentence where onnx.checker refuses the model, but refused its source already; empty otherwise.

    Raises:
        ModelError: as `refuse_to_overwrite`; or the file cannot be written, external data are missing, or onnx.checker
            refuses the model.
    """
    note = ""
    refuse_to_overwrite(path, force=force)
    try:
        copies = list(_external_copies(model, source.parent, path.parent, force))
        for data, target in copies:
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole(target) as temporary:
                shutil.copyfile(data, temporary)
        with whole(path) as temporary:
            temporary.write_bytes(model.SerializeToString(deterministic=True))
            fault = _fault(temporary)
            if fault and not _fault(source):
                raise ModelError(f"{path}: onnx.checker refuses the repaired model, nothing was written: {fault}")
            note = f"onnx.checker refuses {source} as it came: {fault}" if fault else ""
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {reason(error)}") from error
    return note


def _fault(path: Path) -> str:
    """What onnx.checker says against a file; empty where it accepts it."""
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        return str(error).strip().splitlines()[0]
    return ""


def refuse_to_overwrite(path: Path, *, force: bool) -> None:
    """Refuses what a written file would replace, before anything is computed for it.

    Raises:
        ModelError: the folder is missing or cannot be written to, a folder or a device such as /dev/null stands there,
            or a file does and `force` does not give it up.
    """
    if not path.parent.is_dir():
        raise ModelError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise ModelError(f"{path} is a folder: name a file")
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is a device or a pipe, which a file would replace: name a file")
    if path.exists() and not force:
        raise ModelError(f"{path} exists; give --force to overwrite it")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_text(text: str, path: Path, *, force: bool = False) -> None:
    """Writes a text file whole or not at all.

    Raises:
        ModelError: as `refuse_to_overwrite`; or the file cannot be written.
    """
    refuse_to_overwrite(path, force=force)
    try:
        with whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {reason(error)}") from error


def external_files(model: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    """Locations of external data, as the model names them, with their paths.

    Raises:
        ModelError: a location leaves the model's folder, or its file is missing or too short.
    """
    found: dict[str, Path] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        path = folder / location
        if Path(location).is_absolute() or ".." in Path(location).parts:
            raise ModelError(f"external data of {tensor.name!r} lie outside the model's folder: {location}")
        if not path.is_file():
            raise ModelError(f"the external data file {path}, which holds {tensor.name!r}, is missing")
        end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        if end > path.stat().st_size:
            raise ModelError(f"the external data file {path} ends before {tensor.name!r} does: is it truncated?")
        found[location] = path
    return found


def _external_copies(model: onnx.ModelProto, old: Path, new: Path, force: bool) -> Iterator[tuple[Path, Path]]:
    for location, data in external_files(model, old).items():
        target = new / location
        if target.exists():
            if target.samefile(data) or filecmp.cmp(data, target, shallow=False):
                continue
            if not force:
                raise ModelError(f"{target} exists and differs from {data}; give --force to overwrite it")
        yield data, target


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder, renamed to `path` when the block ends well, removed when it does not.

    Where `path` is a symbolic link, the file that it names is written, and the link stays.
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

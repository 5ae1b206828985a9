"""`write_model`: a model, its external data and its plan, as one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias, get_args

import onnx

from ...errors import ModelError, reason
from ..external import external_files, external_tensors, location, relocated, renamed
from ..inline import whole
from . import steps
from .checker import fault_in, fault_of
from .data import Data
from .leftovers import recover, remove_data
from .outputs import beside, refuse_collisions, refuse_to_overwrite
from .spill import spilled
from .transaction import Staged, Transaction
from .users import same_file

External: TypeAlias = Literal["copy", "keep"]
"""What becomes of external data if a model is written to another folder: copies, or nothing: the model reads the
files where they are. Links are no choice: onnx rejects external data that are symbolic links, or have several hard
links (measured, 1.23)."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        path: the file that it was read from; it need not exist.
        folder: the folder that contains its external data.
        original: the model as it was read.
        stored: the files in `folder` whose names differ from the locations in the model that is written, by location.
        external: what becomes of its external data if the model is written to another folder.
    """

    path: Path
    folder: Path
    original: onnx.ModelProto
    stored: Mapping[str, str] | None = None
    external: External = "copy"

    def __post_init__(self) -> None:
        if self.external not in get_args(External):
            raise ModelError(f"external is {self.external!r}; use 'copy' or 'keep'")

    @classmethod
    def restoring(cls, path: Path, folder: Path, original: onnx.ModelProto, model: onnx.ModelProto) -> Source:
        """The source of a model that a plan makes from another: it names the same data as before a copy, or after."""
        return cls(path, folder, original, renamed(original, model))


@dataclass(frozen=True)
class Placed:
    """A model with the locations that its external data will have.

    Attributes:
        model: the model; the given one if no location changes.
        copies: the files of external data to write, with what they contain.
    """

    model: onnx.ModelProto
    copies: Mapping[Path, Data]


def placed(
    model: onnx.ModelProto, path: Path, source: Source, *, force: bool = False, keep_locations: bool = False
) -> Placed:
    """Returns a model as it will be written: in another folder, its external data are copies with new names; weights
    that are new get a file of their own.

    The names contain that of the model and the digest of the data, so a copy never replaces the data of another model.

    Args:
        model: the model to write.
        path: the file to write.
        source: where the model comes from.
        force: overwrite an existing file.
        keep_locations: external data keep the names in the model, because a plan has recorded them.

    Raises:
        ModelError: as `refuse_to_overwrite`; or external data are missing or cannot be read.
    """
    refuse_to_overwrite(path, force=force)
    data = external_files(model, source.folder, source.stored)
    if not data:
        return Placed(model, {})
    try:
        folder, copies = beside(path), dict[Path, Data]()
        if (new := spilled()) is not None and data.pop(new.location, None) is not None:
            model, copies = _stored(model, path, folder, new.path)
        if folder.samefile(source.folder) and not source.stored:
            return Placed(model, copies)
        if source.external == "keep" and not keep_locations:
            return Placed(relocated(model, {place: _below(file, path) for place, file in data.items()}), copies)
        own = {place: Data.of(file) for place, file in data.items()}
        names = {place: place if keep_locations else _name(path, content) for place, content in own.items()}
    except OSError as error:
        raise ModelError(f"{path}: external data cannot be copied: {reason(error)}") from error
    changed = {old: new for old, new in names.items() if old != new}
    return Placed(relocated(model, changed), copies | {folder / names[place]: own[place] for place in data})


def _stored(model: onnx.ModelProto, path: Path, folder: Path, file: Path) -> tuple[onnx.ModelProto, dict[Path, Data]]:
    """Returns a model whose new weights are in a file of their own, and what that contains: those that the model uses,
    in its order.

    Raises:
        OSError: the weights cannot be read.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    mine = [tensor for tensor in external_tensors(new) if location(tensor) == file.name]
    entries = [{entry.key: entry for entry in tensor.external_data} for tensor in mine]
    parts = dict.fromkeys((int(own["offset"].value), int(own["length"].value)) for own in entries)
    content = Data(file, tuple(parts))
    name, offsets = _name(path, content), content.offsets()
    for own in entries:
        own["offset"].value = str(offsets[int(own["offset"].value)])
        own["location"].value = name
    return new, {folder / name: content}


def write_model(
    new: Placed,
    path: Path,
    source: Source,
    *,
    force: bool = False,
    restored: bool = False,
    plan: tuple[Path, Iterable[bytes]] | None = None,
) -> tuple[str, ...]:
    """Writes a model with its external data and its plan, once onnx.checker has accepted it.

    An error, a full disk or a kill at any moment leaves the model that was there with its own data, or the new one with
    its own: the copies of external data get their names first, the model last. Data that only the replaced model used
    are then removed.

    Args:
        new: the model to write.
        path: the file to write.
        source: where the model comes from.
        force: overwrite existing files.
        restored: the model is an original, which is written also if onnx.checker rejects it.
        plan: a file that gets its name just before the model, and its content.

    Returns:
        What the user should know, one sentence each, such as that onnx.checker rejects the model although it is
        written: if it is restored, or if the source is rejected as well.

    Raises:
        ModelError: as `refuse_to_overwrite` and `refuse_collisions`; or a file cannot be written, or onnx.checker
            rejects the model.
    """
    outputs = [path, *(() if plan is None else (plan[0],))]
    kept = (*refuse_collisions(source.original, source.folder, source.path, outputs).values(), *new.copies)
    for output in outputs:
        refuse_to_overwrite(output, force=force)
    recover(output.resolve().parent for output in outputs)
    made: list[Path] = []
    try:
        with _named(path), Transaction(keeps=same_file(path, source.path)) as files:
            copies = [_copied(files, data, target, made) for target, data in new.copies.items()]
            if plan is not None:
                text = plan[1]
                with _named(plan[0]):
                    files.stage(plan[0], lambda file: file.writelines(text))
            last = files.stage(path, lambda file: file.writelines(whole.blocks(new.model)))
            for copy in filter(None, copies):
                files.name(copy)
            notes = [_checked(new.model, last.temporary, path, source, restored), files.commit()]
            if last.old is not None and last.old.suffix == ".old":
                notes.append(remove_data(last.old, [last.old], kept))
    finally:
        _remove_empty(made)
    return tuple(filter(None, notes))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names the file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {reason(error)}") from error


def _name(path: Path, data: Data) -> str:
    """The name of external data beside a model: that of the model with the digest of the data.

    A file of this name with other content belongs to somebody else: the next digest is taken.
    """
    found = hashlib.sha256()
    for block in data.blocks():
        found.update(block)
    while True:
        name = f"{path.name[:150]}.{found.hexdigest()[:16]}.data"
        if not (path.parent / name).exists() or data.equals(path.parent / name):
            return name
        found.update(b"again")


def _copied(files: Transaction, data: Data, target: Path, made: list[Path]) -> Staged | None:
    """Stages external data; None if the file exists.

    Raises:
        ModelError: it exists with other content.
    """
    if target.exists():
        if target.samefile(data.file) or data.equals(target):
            return None
        raise ModelError(
            f"{target} exists and differs from {data.file}: give another folder, because its name is fixed"
        )
    if not target.parent.exists():
        made.append(target.parent)
        steps.make_folder(target.parent)

    def fill(file: IO[bytes]) -> None:
        for block in data.blocks():
            file.write(block)

    return files.stage(target, fill)


def _below(file: Path, path: Path) -> str:
    """The location of a file of external data as a model reads it.

    Raises:
        ModelError: it is not in the folder of the model or below; a location leads only down.
    """
    try:
        return file.resolve().relative_to(path.parent.resolve()).as_posix()
    except ValueError as error:
        where = f"{file} is not in the folder of {path} or below it, where ONNX looks for external data"
        raise ModelError(f"{where}: copy them instead (--external copy)") from error


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # the data are in it
            continue


def _checked(model: onnx.ModelProto, temporary: Path, path: Path, source: Source, restored: bool) -> str:
    """Returns a note if onnx.checker rejects a model that is written nevertheless.

    Raises:
        ModelError: it rejects the model, and accepts the source.
    """
    fault = fault_of(model, temporary)
    if fault and not restored and not fault_in(source.path):
        raise ModelError(f"onnx.checker rejects the repaired model, so {path} was not written: {fault}")
    what = "rejects the restored original" if restored else f"also rejects the original {source.path}"
    return f"onnx.checker {what}: {fault}" if fault else ""

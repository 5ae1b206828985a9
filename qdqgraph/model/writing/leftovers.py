"""Removes what runs that have ended left in a folder: hidden files, and external data that no model reads."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from ...errors import reason
from . import steps
from .transaction import HIDDEN
from .users import locations_of, users


def recover(folders: Iterable[Path]) -> None:
    """Undoes the unfinished writes of processes that have ended, and finishes those whose last file has its name.

    A running process has a lock on its files, in other containers too; a process number would not tell.

    Args:
        folders: where to look; all folders of one result.
    """
    writes: dict[str, list[Leftover]] = defaultdict(list)
    seen: set[Path] = set()
    left = [folder.resolve() for folder in folders]
    while left:
        folder = left.pop()
        if folder in seen:
            continue
        seen.add(folder)
        for found in _hidden(folder):
            writes[found.token].append(found)
            left += _listed(found.path) if found.kind == "also" else []
    for write in writes.values():
        new = [found.path for found in write if found.kind == "tmp"]
        if not any(map(steps.is_locked, new)):
            with contextlib.suppress(OSError):  # such as a file of another user
                _recover(write, new)


@dataclass(frozen=True)
class Leftover:
    """A hidden file, with the parts of its name (`transaction.HIDDEN`)."""

    path: Path
    name: str
    token: str
    kind: str


def _hidden(folder: Path) -> Iterator[Leftover]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - iterdir() would make a path of each of thousands of names
    except OSError:
        return
    for name in names:
        if (match := HIDDEN.fullmatch(name)) and _is_own(folder / name):
            yield Leftover(folder / name, match["name"], match["token"], match["kind"])


def _is_own(path: Path) -> bool:
    """Whether a file is a regular one of this user: others could let a run remove files that they cannot remove."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _listed(path: Path) -> list[Path]:
    try:
        return [Path(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return []


def _recover(write: Iterable[Leftover], new: list[Path]) -> None:
    """Undoes a write of which a temporary file is left, and finishes another; the files that tell go last."""
    last = max((path.stat().st_mtime_ns for path in new), default=0)
    for found in (found for found in write if found.kind in ("old", "was", "new")):
        target = found.path.with_name(found.name)
        if not new and found.kind == "old":
            remove_data(found.path, [found.path])
        elif new and found.kind != "new" and _age(target) <= last:
            steps.rename(found.path, target)
        elif new and found.kind == "new" and 0 < _age(target) <= _age(found.path) and not users(target, new):
            steps.remove(target)
        steps.remove(found.path)
    for path in (*new, *(found.path for found in write if found.kind == "also")):
        steps.remove(path)


def _age(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 if it does not exist."""
    return path.stat().st_mtime_ns if path.exists() else 0


def remove_data(replaced: Path, besides: Collection[Path], keep: Iterable[Path] = ()) -> str:
    """Removes the external data of a replaced model that no other model reads.

    Args:
        replaced: the replaced model, under its hidden name.
        besides: models that do not count as readers.
        keep: files that stay.

    Returns:
        A note on files that cannot be removed; "" if there are none.
    """
    try:
        places = locations_of(replaced)
    except (OSError, DecodeError):
        return ""
    kept = {path.resolve() for path in keep}
    for place in places:
        path = replaced.parent / place
        inside = place and not Path(place).is_absolute() and ".." not in Path(place).parts
        if not inside or path.is_symlink() or not path.is_file() or path.resolve() in kept or users(path, besides):
            continue
        try:
            steps.remove(path)
        except OSError as error:
            return f"{path}, which no model reads any more, cannot be removed: {reason(error)}"
    return ""

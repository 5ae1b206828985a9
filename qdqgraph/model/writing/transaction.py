"""`Transaction`: files that get their names together, or not at all.

Each file is written under a hidden name in the folder of its target, synced, and renamed. The last rename decides.
Until then an error undoes the others, and after a kill the next run does (`leftovers`); from then on the files are
complete. Hidden names are `.NAME.qdqgraph-TOKEN.KIND`: `tmp` is a new file, which its writer keeps locked; `old` is a
replaced one, `was` a replaced one whose external data stay; `new` marks a target that did not exist;
`also` lists the folders of the result, if there are several.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from ...errors import reason
from ...stop import STOP
from . import steps

HIDDEN = re.compile(r"\.(?P<name>.+)\.qdqgraph-(?P<token>\d+-[0-9a-f]{8})(-\d+)?\.(?P<kind>tmp|old|was|new|also)")
"""The name of a file of an unfinished write."""
Fill = Callable[[IO[bytes]], object]
"""Writes the content of a file to a file object."""


@dataclass
class Staged:
    """A complete file under a hidden name.

    Attributes:
        temporary: the hidden name.
        target: the name that it will have.
        handle: its descriptor, which has the lock.
        old: the hidden name of the file that it replaces, or the mark that there was none; None before `named`.
    """

    temporary: Path
    target: Path
    handle: int
    old: Path | None = None

    @property
    def named(self) -> bool:
        """Whether it has its name."""
        return not self.temporary.exists()


@dataclass
class Transaction:
    """Files of one result, a context manager: what is not committed at its end is undone.

    Attributes:
        token: names the process and the write in hidden names.
        staged: the files, in the order in which they get their names.
        keeps: a replaced model is the input, so its external data stay.
    """

    token: str = field(default_factory=lambda: f"{os.getpid()}-{secrets.token_hex(4)}")
    staged: list[Staged] = field(default_factory=list)
    keeps: bool = False
    _lists: list[Path] = field(default_factory=list)
    _whole: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            with self._whole, STOP.held(), contextlib.suppress(OSError):  # what is left, the next run undoes
                self._clean(kind is not None and self.committed)
        finally:
            for item in self.staged:
                os.close(item.handle)
            self.staged.clear()

    def _clean(self, interrupted: bool) -> None:
        """Removes the hidden files, and undoes what is not committed.

        Args:
            interrupted: after the commit; the next run then removes the data that only a replaced model used.
        """
        if not self.committed:
            self._undo()
        for item in self.staged:
            if item.old is not None and not (interrupted and item.old.suffix == ".old"):
                steps.remove(item.old)
        for item in reversed(self.staged):
            steps.remove(item.temporary)
        for path in self._lists:
            steps.remove(path)

    @property
    def committed(self) -> bool:
        """Whether all files have their names."""
        return bool(self.staged) and all(item.named for item in self.staged)

    def stage(self, target: Path, fill: Fill) -> Staged:
        """Writes a file under a hidden name, with the permissions of the file that it will replace.

        Raises:
            OSError: it cannot be written.
        """
        target = target.resolve()
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "it is a folder, a device or a pipe")
        short = os.fsencode(target.name)[:100].decode(errors="ignore")  # a name has at most 255 bytes
        temporary = target.with_name(f".{short}.qdqgraph-{self.token}-{len(self.staged)}.tmp")
        with STOP.held():  # a file that is created is known here, so that an interrupt removes it
            item = Staged(temporary, target, steps.create(temporary))
            self.staged.append(item)
        with io.BufferedWriter(_Raw(item.handle), 1 << 20) as file:
            fill(cast("IO[bytes]", file))
        if target.exists():
            steps.set_mode(item.handle, target.stat().st_mode & 0o777)
        steps.sync(item.handle)
        return item

    def name(self, item: Staged) -> None:
        """Gives a file its name; what it replaces, or that there was nothing, stays on record until the end.

        Raises:
            OSError: it cannot be renamed.
        """
        self._list_folders()
        there = item.target.exists()
        kind = ("was" if self.keeps else "old") if there else "new"
        item.old = item.target.with_name(f".{item.target.name}.qdqgraph-{self.token}.{kind}")
        if there:
            _back_up(item.target, item.old)
        else:
            os.close(steps.create(item.old))
        steps.rename(item.temporary, item.target)

    def commit(self) -> str:
        """Gives all files their names, the last staged one last. From here to the end, signals wait.

        Returns:
            A note if the file system could not confirm that the names are on the disk; "" otherwise.

        Raises:
            OSError: a file cannot be renamed; all are as before.
        """
        self._whole.enter_context(STOP.held())
        for item in self.staged:
            if not item.named:
                self.name(item)
        try:
            for folder in {item.target.parent for item in self.staged}:
                steps.sync_folder(folder)
        except OSError as error:
            return f"written, but the disk did not confirm it: {reason(error)}"
        return ""

    def _list_folders(self) -> None:
        folders = sorted({item.target.parent for item in self.staged})
        if len(folders) == 1 or self._lists:
            return
        content = "\n".join(map(str, folders)).encode()
        for folder in folders:
            self._lists.append(folder / f".folders.qdqgraph-{self.token}.also")
            handle = steps.create(self._lists[-1])
            steps.write(handle, content)
            os.close(handle)

    def _undo(self) -> None:
        for item in reversed(self.staged):
            if item.old is not None and item.named:
                steps.remove(item.target) if item.old.suffix == ".new" else steps.rename(item.old, item.target)


def _back_up(old: Path, new: Path) -> None:
    try:
        steps.link(old, new)
    except OSError:  # a file system without hard links
        shutil.copy2(old, new)


class _Raw(io.RawIOBase):
    """A file object whose writes are steps."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return steps.write(self._handle, data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return os.lseek(self._handle, offset, whence)

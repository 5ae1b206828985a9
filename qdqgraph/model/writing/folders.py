"""`temporary_folder`: a folder for files that only this run needs, which does not stay if the run is killed.

Its process keeps it locked. The lock ends with the process, however that ends; so a later run, or the process that
waits for this one, knows what is abandoned, in other containers too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...stop import STOP

NAME = re.compile(r"qdqgraph-\d+-[0-9a-f]{8}")
"""The name of a temporary folder."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields a new folder in the folder for temporary files (TMPDIR); removes it at the end.

    Raises:
        OSError: it cannot be created.
    """
    remove_abandoned()
    with ExitStack() as stack:
        with STOP.held():  # a folder that is created is known here, so that an interrupt removes it
            path = _created(stack)
        yield path


def remove_abandoned() -> None:
    """Removes the temporary folders of this user's processes that have ended."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name) and (handle := _locked(Path(entry.path))) is not None:
                _remove(Path(entry.path), handle)


def _created(stack: ExitStack) -> Path:
    """Creates a folder and locks it; the stack removes it."""
    while True:
        path = Path(tempfile.gettempdir(), f"qdqgraph-{os.getpid()}-{secrets.token_hex(4)}")
        path.mkdir(0o700)
        try:
            handle = _locked(path)
        except OSError:  # a file system without locks: nobody takes the folder away
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            return path
        if handle is not None:  # otherwise another process took it for abandoned before it was locked
            stack.callback(_remove, path, handle)
            return path


def _locked(path: Path) -> int | None:
    """Opens and locks a folder of this user; returns its descriptor.

    Returns:
        None if a running process has it, if it is gone, or belongs to somebody else.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = path.lstat()
        if os.path.samestat(found, os.fstat(handle)) and found.st_uid == os.geteuid():
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _remove(path: Path, handle: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(handle)

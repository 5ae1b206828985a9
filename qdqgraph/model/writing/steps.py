"""The steps of which every write consists. Each is one change of the file system; a test makes each fail in turn."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF)
"""What file systems that cannot sync a file or folder answer."""


def create(path: Path) -> int:
    """Creates a new file and locks it; returns its descriptor. The lock ends with the process, however that ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def write(handle: int, data: bytes | memoryview) -> int:
    """Writes bytes; returns how many were written."""
    return os.write(handle, data)


def sync(handle: int) -> None:
    """Waits until the content of a file is on the disk."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def set_mode(handle: int, mode: int) -> None:
    """Sets the permissions of a file."""
    os.fchmod(handle, mode)


def link(old: Path, new: Path) -> None:
    """Gives a file a second name."""
    os.link(old, new)


def rename(old: Path, new: Path) -> None:
    """Renames a file; an existing one of the new name is replaced."""
    os.replace(old, new)  # noqa: PTH105 - the steps are system calls


def remove(path: Path) -> None:
    """Removes a file, if there is one."""
    path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Creates a folder and its parents, if there is none."""
    path.mkdir(parents=True, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(handle)
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Returns whether a running process writes a file; True if that cannot be found out."""
    try:
        writable = os.access(path, os.W_OK)  # NFS locks only files that are open for writing
        handle = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False

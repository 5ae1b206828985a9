"""Writes single files: text, and whatever a function writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...errors import ModelError, reason
from .leftovers import recover
from .outputs import refuse_to_overwrite
from .transaction import Fill, Transaction


def write_text(text: str, path: Path, *, force: bool = False) -> None:
    """Writes a text file in UTF-8, completely or not at all; raises as `write_blocks`."""
    write_blocks((text.encode(),), path, force=force)


def write_blocks(content: Iterable[bytes], path: Path, *, force: bool = False) -> None:
    """Writes a file, completely or not at all.

    Raises:
        ModelError: as `refuse_to_overwrite`; or the file cannot be written.
    """
    refuse_to_overwrite(path, force=force)
    try:
        write_file(path, lambda file: file.writelines(content))
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {reason(error)}") from error


def write_file(path: Path, fill: Fill) -> None:
    """Writes a file, completely or not at all; an existing one is replaced.

    Args:
        path: the file. If it is a symbolic link, its target is replaced and the link stays.
        fill: writes the content.

    Raises:
        OSError: it cannot be written.
    """
    recover([path.resolve().parent])
    with Transaction() as files:
        files.stage(path, fill)
        files.commit()

"""The files that a command writes, and which of them are written when an error, Ctrl-C or a signal ends it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import QdqgraphError

OUTPUTS = ("output", "plan", "statistics", "keep", "report", "picture")
"""Arguments that name a file or folder which a command writes; `apply` and `undo` read the plan."""


def outputs(args: Namespace) -> list[Path]:
    """The files and folders that a command writes; the commands for PyTorch list theirs themselves."""
    if args.verb == "torch":
        return []
    found = [Path(file) for name in OUTPUTS if (file := getattr(args, name, None)) is not None]
    found += [file for _, file in saved(args)]
    return [*found, *(path.with_suffix(".json") for path in found if path.suffix.lower() == ".csv")]


def saved(args: Namespace) -> list[tuple[str, Path]]:
    """The formats of --save, with their files."""
    parts = (text.partition("=") for text in getattr(args, "save", ()))
    return [(name, Path(file)) for name, _, file in parts]


@contextmanager
def so_far(paths: Iterable[Path]) -> Iterator[None]:
    """Adds the files that were written to the message of an error, and of an interrupt.

    Args:
        paths: the files that the command writes.
    """
    ages = {path: _age(path) for path in paths}
    try:
        yield
    except (QdqgraphError, KeyboardInterrupt) as error:
        found = _written_since(ages)
        if found and isinstance(error, QdqgraphError):
            error.args = (f"{error}; {found}",)
        elif found and not error.args:  # a sentence that says how to continue names the file
            error.args = (found,)
        raise
    except OSError as error:
        if error.filename is None and (found := _written_since(ages)):  # stdout cannot be written
            error.strerror = f"{error.strerror}; {found}"
        raise


def _age(path: Path) -> tuple[int, int] | None:
    """Which file this is, and when it was written; None if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # no such file, or no file name
        return None
    return found.st_ino, found.st_mtime_ns


def _written_since(ages: Mapping[Path, tuple[int, int] | None]) -> str:
    """The text that lists the files written since then; "" if there are none."""
    new = [str(path) for path, age in ages.items() if _age(path) not in (age, None)]
    return f"written so far: {', '.join(new)}" if new else ""

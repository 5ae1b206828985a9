"""The files that a command writes, and which of them are written when an error, Ctrl-C or a signal ends it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import QdqgraphError

OUTPUTS = ("output", "plan", "statistics", "keep", "report", "picture", "save_ptq", "save_qat", "resume")
"""Arguments that name a file or folder which a command writes; `apply` and `undo` read the plan."""
SQLITE = "sqlite:///"
"""How the URL of a storage begins that is a file."""
Age = tuple[int, int] | None
"""Which file this is, and when it was written, in nanoseconds; None if there is none."""


def stores(args: Namespace) -> list[Path]:
    """The files and folders that a command writes, and the file in which a search keeps what it measured."""
    found = outputs(args)
    if args.verb == "tune":
        from .tune_arguments import storage  # loaded already

        found += [Path(url.removeprefix(SQLITE)) for url in [storage(args)] if url.startswith(SQLITE)]
    return found


def outputs(args: Namespace) -> list[Path]:
    """The files and folders that a command writes, those beside a named file included."""
    found = [Path(file) for name in OUTPUTS if (file := getattr(args, name, None)) is not None]
    found += [file for _, file in saved(args)]
    if args.verb == "torch" and args.what == "sensitivity":
        found += [args.output.with_suffix(suffix) for suffix in (".csv", ".svg")]
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
    ages = ages_of(paths)
    try:
        yield
    except (QdqgraphError, KeyboardInterrupt) as error:
        found = written_since(ages)
        if found and isinstance(error, QdqgraphError):
            error.args = (f"{error}; {found}",)
        elif found and not error.args:  # a sentence that says how to continue names the file
            error.args = (found,)
        raise
    except OSError as error:
        if error.filename is None and (found := written_since(ages)):  # stdout cannot be written
            error.strerror = f"{error.strerror}; {found}"
        raise


def ages_of(paths: Iterable[Path]) -> dict[Path, Age]:
    """Files as they are, for `written_since`."""
    return {path: _age(path) for path in paths}


def _age(path: Path) -> Age:
    try:
        found = path.stat()
    except (OSError, ValueError):  # no such file, or no file name
        return None
    return found.st_ino, found.st_mtime_ns


def written_since(ages: Mapping[Path, Age]) -> str:
    """The text that lists the files written since then; "" if there are none."""
    new = [str(path) for path, age in ages.items() if _age(path) not in (age, None)]
    return f"written so far: {', '.join(new)}" if new else ""

"""What a command has written when an error, Ctrl-C or a signal ends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import QdqgraphError


class Terminated(KeyboardInterrupt):
    """A signal asks the process to end.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


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
        if found := _written_since(ages):
            error.args = (f"{error}; {found}" if isinstance(error, QdqgraphError) else found,)
        raise


def _age(path: Path) -> int | None:
    """When a file was written; None if it does not exist."""
    return path.stat().st_mtime_ns if path.exists() else None


def _written_since(ages: Mapping[Path, int | None]) -> str:
    """The text that lists the files written since then; "" if there are none."""
    new = [str(path) for path, age in ages.items() if _age(path) not in (age, None)]
    return f"written so far: {', '.join(new)}" if new else ""

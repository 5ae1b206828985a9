"""Output of the commands: results on stdout, warnings and progress on stderr.

A terminal gets colors, its own width, and progress; a pipe gets plain lines. NO_COLOR removes every style, FORCE_COLOR
adds colors in a pipe (https://no-color.org, https://force-color.org); a dumb terminal gets neither styles nor progress.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ..printable import printable, printable_message

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 200
"""Columns of tables if stdout is not a terminal; rich's default of 80 would wrap names."""
Step = Callable[[str], None]


def terminal() -> Console:
    """Returns the console for results, with `WIDE` columns if stdout is not a terminal."""
    return _console(sys.stdout)


def warn(*sentences: str) -> None:
    """Prints each sentence on stderr."""
    for sentence in sentences:
        print(f"qdqgraph: {printable_message(sentence)}", file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def steps() -> Iterator[Step]:
    """Yields a function that shows the current step on stderr, with its count and the time since the start.

    It does nothing if stderr is not a terminal, whatever FORCE_COLOR says, or if the terminal cannot move its cursor.
    """
    if not _is_terminal(sys.stderr) or _is_dumb():
        yield lambda message: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    layout = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    text = TextColumn("{task.description}", markup=False, table_column=layout)
    columns = SpinnerColumn(), text, TimeElapsedColumn()
    console = _console(sys.stderr)
    with Progress(*columns, console=console, transient=True, expand=True, redirect_stdout=False) as bar:
        task = bar.add_task("reading")
        yield lambda message: bar.update(task, description=printable(message))


def restore() -> None:
    """Removes the progress of a process that could not do it from the terminal, and shows the cursor."""
    if _is_terminal(sys.stderr) and not _is_dumb():
        sys.stderr.write("\r\x1b[2K\x1b[?25h")


def _console(stream: TextIO) -> Console:
    """Returns a console for stdout or stderr."""
    from rich.console import Console

    shows = _is_terminal(stream)
    forced = bool(os.environ.get("FORCE_COLOR"))
    return Console(
        file=stream,
        force_terminal=shows or forced,
        color_system=None if os.environ.get("NO_COLOR") or (shows and _is_dumb()) else "auto",
        width=None if shows else WIDE,
    )


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _is_dumb() -> bool:
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")

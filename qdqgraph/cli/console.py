"""Output of the commands: results on stdout, warnings and progress on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..printable import printable, printable_message

WIDE = 200
"""Columns of tables if stdout is not a terminal; rich's default of 80 would wrap names."""


def terminal() -> Console:
    """Returns the console for results, with `WIDE` columns if stdout is not a terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def warn(*sentences: str) -> None:
    """Prints each sentence on stderr."""
    for sentence in sentences:
        Console(stderr=True).print(
            f"qdqgraph: {printable_message(sentence)}", markup=False, highlight=False, soft_wrap=True
        )


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Yields a function that shows the current step on stderr; it does nothing if stderr is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda message: None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading")
        yield lambda message: bar.update(task, description=printable(message))

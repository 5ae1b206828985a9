"""Commands of qdqgraph as processes that `benchmarks.kills` can end at any moment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qdqgraph.cli import entry
from qdqgraph.cli import fix as _fix  # noqa: F401 - loaded once, before the forks
from qdqgraph.model.writing import steps


def run(folder: Path, arguments: list[str], begun: Callable[[], object] | None = None) -> int:
    """Starts a command in a fork of this process; returns its number."""
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(folder)
        null = os.open(os.devnull, os.O_WRONLY)
        errors = os.open(said(folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(null, 1)
        os.dup2(errors, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        if begun is not None:
            create: Any = steps.create

            def first(path: Path) -> Any:
                begun()
                return create(path)

            setattr(steps, "create", first)  # noqa: B010
        sys.argv = ["qdqgraph", *arguments]
        entry()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(99)


def spawned(folder: Path, arguments: list[str]) -> int:
    """Starts a command as a process of its own; returns its number."""
    errors = os.open(said(folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_WRONLY)
    here = Path.cwd()
    os.chdir(folder)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
        path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        own = [sys.executable, "-m", "qdqgraph", *arguments]
        return os.posix_spawn(sys.executable, own, path, file_actions=actions)
    finally:
        os.chdir(here)
        os.close(errors)
        os.close(null)


def said(folder: Path) -> Path:
    """The file with what a command in this folder prints on stderr."""
    return folder.with_name(f"{folder.name}.stderr")


def ended(folder: Path, arguments: list[str]) -> None:
    """Runs a command to its end.

    Raises:
        SystemExit: it failed.
    """
    status = os.waitpid(run(folder, arguments), 0)[1]
    if status:
        raise SystemExit(f"{' '.join(arguments)}: {said(folder).read_text()}")

"""`End`: what is left to do and to say when a crash or SIGKILL has ended the process of a command."""

from __future__ import annotations

import os
import signal
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..crash import PYTHON, TRACEBACK, owner, step_of
from ..printable import printable_lines, printable_message
from ..stop import word
from ..traces import TRACES, Frame
from .console import restore
from .failures import DEFECT, files_of, say, wants_traceback
from .written import Age, ages_of, stores, written_since

CRASHES = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
"""Signals by which the system ends a process for what its own code does."""
MEMORY = "Linux does that if memory runs out, or at a limit on processor time: raise the limit, or use a larger machine"
REPORT = f"please report it with the file and the traceback, which {TRACEBACK}=1 or --traceback prints"


@dataclass(frozen=True)
class End:
    """The end of a command that could not speak for itself.

    Attributes:
        args: its arguments.
        ages: its outputs as they were before.
    """

    args: Namespace
    ages: Mapping[Path, Age]

    @classmethod
    def of(cls, args: Namespace) -> End:
        """That of a command which begins now."""
        return cls(args, ages_of(stores(args)))

    def said(self, process: int, number: int) -> int:
        """Removes the temporary files, and prints how the command ended; returns the exit code.

        Args:
            process: the number of its process.
            number: the signal that ended it.
        """
        self._clean(process)
        restore()
        crashed = _name(number) in CRASHES
        if crashed and wants_traceback(self.args, asked=TRACES.wanted):
            say(printable_lines(TRACES.text))
        how = _crash(number, TRACES.frames) if crashed else f"{_word(number)} ({_name(number)})"
        written = written_since(self.ages) or "nothing was written"
        advice = _advice(TRACES.frames) if crashed else MEMORY if number == signal.SIGKILL else ""
        command = f"{how} in {self.args.verb}{self._files()}"
        say(f"qdqgraph: {printable_message('; '.join(part for part in (command, written, advice) if part))}")
        return DEFECT if crashed else 128 + number

    def _files(self) -> str:
        """The files of the command; the one of several models that it was at."""
        models = getattr(self.args, "models", None)
        if isinstance(models, list) and TRACES.model in models:
            return f" with {TRACES.model}"
        return f" with {', '.join(found[:3])}" if (found := files_of(self.args)) else ""

    def _clean(self, process: int) -> None:
        """Removes what the process left in the folders of its files, and its temporary folders."""
        from ..model.writing.folders import remove_abandoned

        remove_abandoned()
        folders = {path.absolute().parent for path in (*self.ages, *map(Path, files_of(self.args)))}
        if any(f".qdqgraph-{process}-" in name for folder in folders for name in _names(folder)):
            from ..model.writing.leftovers import recover  # loads onnx

            recover(folders)


def _crash(number: int, frames: Sequence[Frame]) -> str:
    """What crashed, and what the command did."""
    last = _last(frames)
    place = "" if last is None else f" in {owner(last.file) or f'{last.file}:{last.line}'}"
    step = f" while {step_of(frame.file for frame in frames)}" if frames else ""
    return f"a crash{place} ({_name(number)}) ended the process{step}"


def _advice(frames: Sequence[Frame]) -> str:
    last = _last(frames)
    return REPORT if last is None or owner(last.file) else "that is your code, or native code that it calls"


def _last(frames: Sequence[Frame]) -> Frame | None:
    """The innermost function that is no part of Python."""
    return next((frame for frame in reversed(frames) if owner(frame.file) != PYTHON), None)


def _word(number: int) -> str:
    return "killed" if number == signal.SIGKILL else word(number)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names alone
    except OSError:
        return []


def _name(number: int) -> str:
    """The name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"

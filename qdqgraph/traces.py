"""`TRACES`: what a process leaves for the one that waits for it, if a crash or SIGKILL ends it.

Where a library crashes, no Python code runs any more. `faulthandler` then writes the functions that run to a file in
memory, which both processes have. Loads almost nothing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
from dataclasses import dataclass
from pathlib import Path

FRAME = re.compile(r'^  File "(.*)", line (\d+|\?\?\?) in .*$', re.MULTILINE)
"""A function in the text of faulthandler, the innermost first."""
CURRENT = "Current thread "


@dataclass(frozen=True)
class Frame:
    """A function that ran: its file, and the line as text."""

    file: str
    line: str


class Traces:
    """The traces of one process, in files that it shares with its parent; without `open`, nothing is kept.

    Attributes:
        wanted: the user asked Python for this text (PYTHONFAULTHANDLER, -X faulthandler).
    """

    def __init__(self) -> None:
        self.wanted = False
        self._dump = self._model = -1

    def open(self) -> None:
        """Creates the files, in the parent."""
        with contextlib.suppress(OSError):  # such as a limit on open files
            self._dump, self._model = _file(), _file()
        self.wanted = faulthandler.is_enabled()

    def listen(self) -> None:
        """Lets a crash of this process leave its functions."""
        if self._dump >= 0:
            faulthandler.enable(self._dump)

    def reads(self, model: Path) -> None:
        """Notes the model that is read."""
        if self._model >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(self._model, os.fsencode(model) + b"\0", 0)

    @property
    def model(self) -> Path | None:
        """The model that was read last; None if none was."""
        name = _content(self._model).partition(b"\0")[0]
        return Path(os.fsdecode(name)) if name else None

    @property
    def text(self) -> str:
        """The functions of all threads, as faulthandler writes them; "" if it could not."""
        return _content(self._dump).decode("utf-8", "replace")

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The functions of the thread that crashed, or of the first thread if that one ran no Python; the outermost
        first."""
        return frames_of(self.text)


def _file() -> int:
    """A file without a name, in memory if the system has such files."""
    if hasattr(os, "memfd_create"):  # Python for old systems lacks it
        return os.memfd_create("qdqgraph")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _content(handle: int) -> bytes:
    return os.pread(handle, 1 << 20, 0) if handle >= 0 else b""


def frames_of(text: str) -> tuple[Frame, ...]:
    """Reads the text of faulthandler as `Traces.frames`."""
    threads = text.split("\n\n")
    found = [tuple(Frame(*match) for match in FRAME.findall(each))[::-1] for each in threads]
    current = [frames for frames, each in zip(found, threads, strict=True) if CURRENT in each]
    return next((frames for frames in (*current, *reversed(found)) if frames), ())


TRACES = Traces()
"""A process has one parent, so there is one."""

"""Signals that end the command line: Ctrl-C, SIGTERM, SIGHUP. Loads almost nothing: imports can be interrupted.

While modules load, nothing is written and no child runs: the handler prints the sentence and ends the process. Later it
raises `Stopped`, so that temporary files are removed and children end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
CLEANING = 2.0
"""Seconds after a signal in which another one is ignored, because the first one is still removing files."""


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Stop:
    """What a signal does, and the last one that came.

    Attributes:
        number: the last signal; 0 if none came.
        over: everything is written and printed; signals are ignored from here on. An attribute, because a signal can
            come at the call of a method.
        written: says which files are written; "" if none are.
    """

    def __init__(self) -> None:
        self.number, self.over = 0, False
        self.written: Callable[[], str] = str
        self._raises, self._until = False, 0.0
        self._holds, self._late = 0, 0

    def listen(self) -> None:
        """Handles the signals, except those that the caller of the process ignores, as nohup does for SIGHUP."""
        for number in _numbers():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    @property
    def listened(self) -> list[int]:
        """The signals that are handled."""
        return [number for number in _numbers() if signal.getsignal(number) == self._handle]

    def start(self) -> None:
        """From here on a signal raises `Stopped`."""
        self._raises = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delays signals until its end: what happens inside, such as renaming the files of a result, happens whole.

        Raises:
            Stopped: at the end, if a signal came.
        """
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if self._late and not self._holds:
                number, self._late = self._late, 0
                self._handle(number, None)

    def done(self) -> None:
        """Ignores signals: everything is written and printed, and the exit code says so."""
        for number in _numbers():
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: object) -> None:
        if not self._raises:
            os.write(2, f"qdqgraph: {word(number)}, nothing was written\n".encode())
            os._exit(128 + number)
        if self._holds:
            self._late = self._late or number
            return
        if self.over or time.monotonic() < self._until:
            return
        self.number, self._until = number, time.monotonic() + CLEANING
        raise Stopped(number)


STOP = Stop()
"""Signals belong to the process, so there is one."""


def word(number: int) -> str:
    """Returns how a message calls the end by a signal."""
    return "interrupted" if number == signal.SIGINT else "terminated"


def _numbers() -> list[int]:
    """The signals that this system has."""
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]

"""Signals that end the command line: Ctrl-C, SIGTERM, SIGHUP. Loads almost nothing: imports can be interrupted.

While modules load, nothing is written and no child runs: the handler prints the sentence and ends the process. Later it
raises `Stopped`, so that temporary files are removed and children end.
"""

from __future__ import annotations

import os
import signal
import time

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
    """

    def __init__(self) -> None:
        self.number = 0
        self._raises, self._until = False, 0.0

    def listen(self) -> None:
        """Handles the signals, except those that the caller of the process ignores, as nohup does for SIGHUP."""
        for number in _numbers():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def start(self) -> None:
        """From here on a signal raises `Stopped`."""
        self._raises = True

    def done(self) -> None:
        """Ignores signals: everything is written and printed, and the exit code says so."""
        for number in _numbers():
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: object) -> None:
        if not self._raises:
            os.write(2, f"qdqgraph: {word(number)}, nothing was written\n".encode())
            os._exit(128 + number)
        if time.monotonic() < self._until:
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

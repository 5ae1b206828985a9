"""`entry`: the console script: signals, streams, one command, the exit code."""

from __future__ import annotations

import gc
import os
import sys
from io import TextIOWrapper

from ..stop import STOP
from .failures import stopped, unprinted
from .main import main


def entry() -> None:
    """Runs the console script. A signal leaves no temporary file and no child; after the end it changes nothing."""
    _open_streams()
    STOP.listen()
    try:
        STOP.start()
        try:
            code: int | str | None = main(own_process=True)
        except SystemExit as end:
            code = end.code
        try:
            sys.stdout.flush()
        except OSError as error:
            code = unprinted(error)
        STOP.over = True
    except KeyboardInterrupt as stop:  # between two of these lines
        code = stopped(stop, STOP.number)
    STOP.done()
    gc.freeze()  # or the interpreter would look for cycles in the graphs that end with the process
    sys.exit(code)


def _open_streams() -> None:
    """Opens stdin, stdout and stderr where the caller closed them: a file would get their numbers, and the output.

    Characters that the encoding of a stream lacks are escaped.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):  # nothing can be written to stdout
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - a descriptor, for the whole process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # an encoding such as ASCII has not every character of a name
            stream.reconfigure(errors="backslashreplace")

"""How a command ends that an error or a signal stops: one sentence on stderr, and the exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence

from ..crash import TRACEBACK, expected, sentence
from ..errors import GraphError, InternalError, QdqgraphError, reason
from ..printable import printable_lines, printable_message
from ..stop import STOP, word

INVALID, DEFECT = 2, 3
"""Exit codes: invalid input, rule or settings; a defect of qdqgraph."""
UNPRINTED = (errno.EPIPE, errno.EBADF, errno.EIO, errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""Errors without a file name that writing to stdout raises."""
MODELS = ("models", "model", "a", "b", "engines")
"""Arguments that name models."""
FILES = (*MODELS, "plan", "layers", "paths", "code")
"""Arguments that an internal error names."""


def failed(error: Exception, args: Namespace) -> int:
    """Prints the sentence of an error; returns the exit code.

    Args:
        error: what the command raised.
        args: the arguments; without a command if they were not read yet.
    """
    if STOP.number and not isinstance(error, QdqgraphError):  # a library made another error of the interrupt
        return stopped(KeyboardInterrupt(), STOP.number)
    if isinstance(error, OSError) and error.filename is None and error.errno in UNPRINTED:
        return unprinted(error)
    known = error if isinstance(error, QdqgraphError) else expected(error, args.verb)
    if known is None:
        known = InternalError(sentence(error, args.verb, files_of(args)))
    if isinstance(known, InternalError) and wants_traceback(args):
        say(printable_lines("".join(traceback.format_exception(error))))
    files = files_of(args, MODELS) if isinstance(known, GraphError) else []
    named = f"{files[0]}: {known}" if len(files) == 1 and str(files[0]) not in str(known) else str(known)
    say(f"qdqgraph: {printable_message(named)}")
    return DEFECT if isinstance(known, InternalError) else INVALID


def stopped(stop: KeyboardInterrupt, number: int) -> int:
    """Prints how a signal ended the command, and what is written; returns the exit code."""
    number = number or signal.SIGINT
    say(f"qdqgraph: {word(number)}, {printable_message(str(stop) or STOP.written() or 'nothing was written')}")
    return 128 + number


def unprinted(error: OSError) -> int:
    """Returns the exit code if stdout cannot be written: the pipe is closed (head, a pager), or the disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # prevents another flush at interpreter exit
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE
    say(f"qdqgraph: the output cannot be printed: {reason(error)}")
    return INVALID


def wants_traceback(args: Namespace, *, asked: bool = False) -> bool:
    """Returns whether the traceback of a defect is printed.

    Args:
        args: the arguments.
        asked: it was asked for in another way.
    """
    return asked or getattr(args, "traceback", False) or bool(os.environ.get(TRACEBACK))


def files_of(args: Namespace, arguments: Sequence[str] = FILES) -> list[str]:
    """The files that arguments name."""
    found = [getattr(args, name, None) for name in arguments]
    return [str(each) for entry in found if entry for each in (entry if isinstance(entry, list | tuple) else [entry])]


def say(text: str) -> None:
    """Prints on stderr, if anybody reads it."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - the only place that prints errors
    except OSError:
        return

"""`apart`: the command runs in a child process, so that a crash ends with a sentence too.

onnx and ONNX Runtime are native code that runs in the process of the command, and a damaged model can end that process.
The first process has loaded little more than the arguments. It passes on signals, and says how the other one ended.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Collection

from ..children import adopt, ends_with_us, wait_for_all
from ..stop import STOP
from ..traces import TRACES
from .ends import End

PATIENCE = 2.0
"""Seconds in which the processes that a crashed command had started end."""


def apart(args: Namespace) -> int | None:
    """Lets the command go on in a child process, which ends with this one, also if this one is killed.

    Returns:
        None in the child. In this process the exit code, when the child has ended. None in this process too if there
        can be no such child: another system than Linux, a limit on the number of processes.
    """
    if (prepare := ends_with_us()) is None:
        return None
    end = End.of(args)
    TRACES.open()
    adopt()
    before = signal.signal(signal.SIGCHLD, lambda number, frame: None)  # ignored, it would not come
    watched = {signal.SIGCHLD, *STOP.listened}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        child = os.fork()
    except OSError:
        child = 0
    else:
        if child:
            status = _waited(child, watched)
            if not os.WIFSIGNALED(status):
                return os.waitstatus_to_exitcode(status)
            wait_for_all(PATIENCE)
            return end.said(child, os.WTERMSIG(status))
        prepare()
        TRACES.listen()
    signal.signal(signal.SIGCHLD, before)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return None


def _waited(child: int, watched: Collection[int]) -> int:
    """Waits for the child; returns its status.

    Passes on the signals that come. A terminal has sent them to the child as well, `kill` has not; the child ignores a
    second one (`stop.CLEANING`).
    """
    while True:
        number = signal.sigwait(watched)
        if number != signal.SIGCHLD:
            os.kill(child, number)  # it is not reaped, so the number is its own
            continue
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status

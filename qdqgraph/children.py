"""Child processes that end when this one ends, also when it is killed, and what they leave behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html, and PR_SET_CHILD_SUBREAPER."""


def ends_with_us() -> Callable[[], None] | None:
    """Returns what a child calls before it runs its program, as `preexec_fn`; None where only Linux can do it.

    The kernel kills the child when the thread that started it ends: start and wait in one thread.
    """
    if sys.platform != "linux":
        return None
    library, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

    def prepare() -> None:
        library.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            os._exit(128 + signal.SIGKILL)

    return prepare


def adopt() -> None:
    """Makes this process the parent of descendants whose own parent ends. Only Linux can do it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_all(seconds: float) -> None:
    """Waits until no child of this process is left, at most so long: a function of the user may have started one that
    goes on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return

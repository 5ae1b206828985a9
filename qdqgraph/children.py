"""Child processes that end when this one ends, also when it is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
"""Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html"""


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

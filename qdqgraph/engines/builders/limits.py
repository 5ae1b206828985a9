"""Runs an external program with limits on time and memory; a crash of the program becomes an error message."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from ...children import ends_with_us
from ...errors import EngineError, reason

POLL = 0.1
"""Seconds between two checks of time and memory; a check takes about 2 ms."""
TAIL = 4096
"""Bytes of the log that are read to find its last line."""


@dataclass(frozen=True)
class Limits:
    """Seconds, and MiB of resident memory, for the program and its child processes.

    Raises:
        EngineError: a limit is not a number above 0.
    """

    seconds: float = 600.0
    mebibytes: int = 8192

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise EngineError(f"the time limit is {self.seconds!r}; use a number of seconds above 0")
        if self.mebibytes < 1:
            raise EngineError(f"the memory limit is {self.mebibytes!r}; use a number of MiB, 1 or more")


def run(
    command: Sequence[str], what: str, log: Path, limits: Limits, environment: Mapping[str, str] | None = None
) -> int:
    """Runs a program until it ends and returns its exit code; its output goes to `log`.

    Args:
        what: the name of the program in messages.
        environment: variables in addition to our own.

    Raises:
        EngineError: the program cannot be started, crashed, or exceeded a limit and was terminated.
    """
    try:
        with log.open("wb") as out:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=ends_with_us(),
                env={**os.environ, **(environment or {})},
            )
    except OSError as error:
        raise EngineError(f"{what} cannot be started: {reason(error)}") from error
    try:
        exceeded = _watched(child, limits)
    finally:
        _end(child)
    if exceeded:
        raise EngineError(f"{what} {exceeded}{last_words(log)}")
    code = child.returncode
    if code < 0 or code in (128 + signal.SIGSEGV, 128 + signal.SIGABRT, 128 + signal.SIGBUS):
        number = -code if code < 0 else code - 128
        raise EngineError(f"{what} crashed ({signal.Signals(number).name}){last_words(log)}")
    return code


def _watched(child: subprocess.Popen[bytes], limits: Limits) -> str:
    """Waits for the program to end; returns the exceeded limit as text, or "" if the program ended by itself."""
    with contextlib.suppress(psutil.Error):  # it may have ended
        psutil.Process(child.pid).rlimit(psutil.RLIMIT_CORE, (0, 0))  # a core dump can be several gigabytes
    ends = time.monotonic() + limits.seconds
    while child.poll() is None:
        if time.monotonic() > ends:
            return f"was terminated after {limits.seconds:g} s, the limit of --time-limit"
        used = resident(child.pid) >> 20
        if used > limits.mebibytes:
            return f"was terminated when it used {used:,} MiB; the limit of --memory-limit is {limits.mebibytes:,}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL)
    return ""


def resident(process: int) -> int:
    """Resident memory of a process and its descendants, in bytes; processes that ended count as 0."""
    used = 0
    for found in _tree(process):
        with contextlib.suppress(psutil.Error):
            used += found.memory_info().rss
    return used


def _tree(process: int) -> list[psutil.Process]:
    """A process and its descendants that are running."""
    try:
        top = psutil.Process(process)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kills the program and its descendants: its process group, and the processes that left the group."""
    started = _tree(child.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    for process in started:
        with contextlib.suppress(psutil.Error):
            process.kill()
    child.wait()


def last_words(log: Path) -> str:
    """The last line of a log, for a message: "; its last output: …"."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return f"; its last output: {lines[-1][:300]}"
    return ""

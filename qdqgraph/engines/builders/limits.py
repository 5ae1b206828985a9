"""A program of somebody else, run with a limit of time and memory: its crash is our message, not our crash."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from ...errors import EngineError, reason

POLL = 0.1
"""Seconds between two looks at the clock and at the memory; a look takes some 2 ms."""
TAIL = 4096
"""Bytes of the log that are read for its last words."""


@dataclass(frozen=True)
class Limits:
    """Seconds, and MiB of resident memory, for the program and all it starts."""

    seconds: float = 600.0
    mebibytes: int = 8192


def run(
    command: Sequence[str], what: str, log: Path, limits: Limits, environment: Mapping[str, str] | None = None
) -> int:
    """Runs a program to its end and returns its exit code; everything it says goes to `log`.

    Args:
        what: what to call it in messages.
        environment: variables beside our own.

    Raises:
        EngineError: it cannot be started, it crashed, or it passed a limit and was ended.
    """
    try:
        with log.open("wb") as out:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
    except OSError as error:
        raise EngineError(f"{what} cannot be started: {reason(error)}") from error
    try:
        passed = _watched(child, limits)
    finally:
        _end(child)
    if passed:
        raise EngineError(f"{what} {passed}{last_words(log)}")
    code = child.returncode
    if code < 0 or code in (128 + signal.SIGSEGV, 128 + signal.SIGABRT, 128 + signal.SIGBUS):
        number = -code if code < 0 else code - 128
        raise EngineError(f"{what} crashed ({signal.Signals(number).name}){last_words(log)}")
    return code


def _watched(child: subprocess.Popen[bytes], limits: Limits) -> str:
    """Waits for the end; the limit that was passed, as words, or "" where the program ended by itself."""
    with contextlib.suppress(psutil.Error):  # it may have ended
        psutil.Process(child.pid).rlimit(psutil.RLIMIT_CORE, (0, 0))  # a crash of a library leaves gigabytes otherwise
    ends = time.monotonic() + limits.seconds
    while child.poll() is None:
        if time.monotonic() > ends:
            return f"was ended after {limits.seconds:g} s, the limit of --time-limit"
        used = resident(child.pid) >> 20
        if used > limits.mebibytes:
            return f"was ended when it used {used:,} MiB; the limit of --memory-limit is {limits.mebibytes:,}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(POLL)
    return ""


def resident(process: int) -> int:
    """Bytes of memory that a process and all it started hold; what has ended holds none."""
    held = 0
    for found in _tree(process):
        with contextlib.suppress(psutil.Error):
            held += found.memory_info().rss
    return held


def _tree(process: int) -> list[psutil.Process]:
    """A process and all it started, as far as they run."""
    try:
        top = psutil.Process(process)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the program with all it started: its process group, and what left the group."""
    started = _tree(child.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    for process in started:
        with contextlib.suppress(psutil.Error):
            process.kill()
    child.wait()


def last_words(log: Path) -> str:
    """The last line of a log, for a message: "; its last words: …"."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return f"; its last words: {lines[-1][:300]}"
    return ""

"""Locks the clocks of the GPU while engines are timed, if nvidia-smi may, and says what the machine is."""

from __future__ import annotations

import contextlib
import platform
import shutil
import subprocess
from collections.abc import Iterator

QUERY = "name,driver_version,memory.total,clocks.max.sm,clocks.max.mem"
SHARE = 0.75
"""The share of the highest clock that is locked: the highest one is not held when the GPU gets warm."""


def _said(*arguments: str) -> tuple[int, str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return 127, "no nvidia-smi on the PATH"
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, (done.stdout or done.stderr).strip()


def machine() -> dict[str, str]:
    """Returns the GPU, its driver and the highest clocks, and the processor; "gpu" is the reason if there is none."""
    code, text = _said(f"--query-gpu={QUERY}", "--format=csv,noheader,nounits")
    values = [value.strip() for value in text.splitlines()[0].split(",")] if not code and text else []
    if len(values) != len(QUERY.split(",")):
        return {"gpu": f"none: {text or 'nvidia-smi lists no GPU'}", "processor": platform.machine()}
    return {
        "gpu": values[0],
        **dict(zip(QUERY.split(",")[1:], values[1:], strict=True)),
        "processor": platform.machine(),
    }


@contextlib.contextmanager
def locked(found: dict[str, str]) -> Iterator[str]:
    """Locks the clocks of the GPU inside the block; yields what was done. Locking needs administrator rights.

    Args:
        found: the result of `machine`.
    """
    highest = found.get("clocks.max.sm", "")
    if not highest.isdecimal():
        yield "not locked: no GPU"
        return
    clock = int(int(highest) * SHARE)
    code, text = _said(f"--lock-gpu-clocks={clock},{clock}")
    if code or "not" in text.lower():
        yield f"not locked: {text.splitlines()[0] if text else 'nvidia-smi refused'}"
        return
    try:
        yield f"locked at {clock} MHz"
    finally:
        _said("--reset-gpu-clocks")

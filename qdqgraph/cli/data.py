"""The samples that --data names: files, or the user's function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .user_code import Batches, called, resolve_here


def data_of(text: str | None) -> str | Callable[[], Iterable[Any]] | None:
    """What a call takes as data: the path, or a function that begins a pass over what the user's function yields.

    Raises:
        TorchError: there is no such function, or its module fails.
    """
    if text is None or ":" not in text or Path(text).exists():
        return text
    function = resolve_here(text, "--data")

    def batches() -> Iterable[Any]:
        return Batches(called(function, f"--data {text}"), f"--data {text}")

    batches.__name__ = text
    return batches

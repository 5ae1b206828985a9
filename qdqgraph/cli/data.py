"""The samples that --data names: files, or the user's function."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .user_code import Batches, called, resolve_here


def samples_of(args: Namespace) -> Mapping[str, Any]:
    """The arguments of the calls that read samples: `data`, `preprocess`, `samples`; raises as `data_of`."""
    return {"data": data_of(args.data), "preprocess": args.preprocess, "samples": args.samples}


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

"""Inputs whose seed begins with "x": any command with any of its options, on damaged files of every kind."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random

from .files import Files, furnish
from .judge import Judged
from .options import drawn
from .promises import MODELS, promised, snapshot

ROUNDS = 3
"""Command lines on the files of one input."""


def judge(folder: Path, random: Random, found: Judged) -> None:
    """Runs some command lines on the files of a folder, which is the current one."""
    warnings.simplefilter("ignore")
    furnish(folder)
    files, top = Files(folder, random, found), importlib.import_module("qdqgraph.cli.main").parser()
    for _ in range(ROUNDS):
        words = drawn(top, files, random)
        before = snapshot(folder)
        ran = found.ran(*words)
        promised(words, ran, folder, before, found)
        if ran.code in (0, 1) and words[0] in MODELS:
            _model(words, folder, before, found)


def _value(words: Sequence[str], *options: str) -> str:
    """The value of an option, "" if it is not given."""
    for index, word in enumerate(words):
        for option in options:
            if word == option:
                return words[index + 1]
            if word.startswith(f"{option}="):
                return word.partition("=")[2]
    return ""


def _model(words: Sequence[str], folder: Path, before: dict[str, bytes | str], found: Judged) -> None:
    """The model that a command wrote is as sound as the one that it read, and its plan gives that back."""
    name, plan = _value(words, "-o", "--output"), _value(words, "--plan")
    read = words[2] if words[0] in ("apply", "undo") else words[1]
    content = before.get(read)
    if not name or "--dry-run" in words or "--status" in words or not isinstance(content, bytes):
        return
    source = folder / f"{read}.before.onnx"
    source.write_bytes(content)
    if words[0] != "undo":
        found.result(source, folder / name, words)
    if plan and words[0] not in ("apply", "undo"):
        found.undone(folder / plan, folder / name, folder / "back.onnx", content)
        (folder / "back.onnx").unlink(missing_ok=True)
    source.unlink()

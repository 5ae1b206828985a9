"""The command completion: completion scripts for bash, zsh and fish, made from the argument parser."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from .parsers import commands_of

SHELLS = ("bash", "zsh", "fish")
PATTERNS = {
    "model": ("*.onnx",),
    "models": ("*.onnx",),
    "reference": ("*.onnx",),
    "plan": ("*.json",),
    "ranking": ("*.json",),
    "off": ("*.json",),
    "layers": ("*.json",),
    "profile": ("*.json",),
    "times": ("*.json",),
    "engines": ("*.onnx", "*.json"),
    "a": ("*.onnx", "*.json"),
    "b": ("*.onnx", "*.json"),
    "config": ("*.toml",),
}
"""Files that complete an argument, by its name in the parser; every other path is completed with all files."""
NAMES_FILES = ("data", "table", "statistics", "reference")
"""Arguments without the type Path that name files too."""


def completion(args: Namespace) -> int:
    """`qdqgraph completion SHELL`: prints the script; returns 0."""
    import shtab

    whole = args.parser.whole()
    _mark_files(whole)
    sys.stdout.write(shtab.complete(whole, shell=args.shell))
    return 0


def _mark_files(parser: ArgumentParser) -> None:
    """Sets which files complete each argument, where shtab looks for it."""
    for action in parser._actions:
        if _names_files(action):
            marked: Any = action
            marked.complete = _files(action)
    for command in commands_of(parser):
        _mark_files(command)


def _names_files(action: Action) -> bool:
    if isinstance(action.metavar, str) and action.metavar.startswith("MODULE"):
        return False
    return action.type is Path or action.dest in NAMES_FILES


def _files(action: Action) -> Any:
    import shtab

    if action.metavar == "FOLDER":
        return shtab.DIRECTORY
    if action.dest in PATTERNS and not (action.dest == "plan" and action.option_strings):
        return shtab.glob(*PATTERNS[action.dest])
    return shtab.FILE

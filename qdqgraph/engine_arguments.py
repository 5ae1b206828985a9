"""What the arguments of the commands about engines mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Verb = Callable[[Any, str, str, str], argparse.ArgumentParser]


def add(verb: argparse.ArgumentParser, make: Verb) -> None:
    """Adds what `qdqgraph engine` can do; `make` makes a command of (verbs, name, text, example)."""
    verbs = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    read = make(
        verbs, "read", "show an engine that trtexec exported", "qdqgraph engine read layers.json --profile profile.json"
    )
    read.add_argument("layers", type=Path, metavar="LAYERS.json", help="of trtexec --exportLayerInfo, or saved with -o")
    read.add_argument("--profile", type=Path, metavar="FILE", help="of trtexec --exportProfile: times of layers")
    read.add_argument("--times", type=Path, metavar="FILE", help="of trtexec --exportTimes: times of whole runs")
    _saving(read)
    diff = make(
        verbs, "diff", "what differs between two engines; exit 1 where B is worse", "qdqgraph engine diff a.json b.json"
    )
    diff.add_argument("a", type=Path, metavar="A", help="layer info, a saved engine, or a model to forecast")
    diff.add_argument("b", type=Path, metavar="B")
    for side in "ab":
        diff.add_argument(f"--profile-{side}", type=Path, metavar="FILE", help=f"times of the layers of {side.upper()}")
    diff.add_argument("--json", action="store_true", help="print the differences as JSON and nothing else")


def _saving(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-o", "--output", type=Path, metavar="FILE", help="save the engine, for diff and draw")
    verb.add_argument("--force", action="store_true", help="overwrite existing files")
    verb.add_argument("--json", action="store_true", help="print the engine as JSON and nothing else")

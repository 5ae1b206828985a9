"""The arguments of the command report, and the option --report of other commands."""

from __future__ import annotations

from argparse import ArgumentParser, _ArgumentGroup
from pathlib import Path


def add_report(verb: ArgumentParser | _ArgumentGroup, *, force: bool = True) -> None:
    """Adds the option to a command or a group of its options; with `force`, the command has no --force yet."""
    help = "also write an HTML page, which needs no network: summary, graph, findings, kernels"
    verb.add_argument("--report", type=Path, metavar="FILE.html", help=help)
    if force:
        verb.add_argument("--force", action="store_true", help="overwrite existing files")


def add(verb: ArgumentParser) -> None:
    """Adds the arguments of `report`."""
    help = "the repaired model: the page shows before and after"
    verb.add_argument("--fixed", type=Path, metavar="FIXED.onnx", help=help)
    verb.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.html", help="output file")
    verb.add_argument("--force", action="store_true", help="overwrite existing files")

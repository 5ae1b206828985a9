"""The command check."""

from __future__ import annotations

from argparse import Namespace

from .. import api
from ..report import formats
from .console import steps, terminal
from .invocation import Invocation


def check(args: Namespace) -> int:
    """`qdqgraph check MODEL…`: returns 0 if there is no finding, 1 if there are findings."""
    run = Invocation.of(args)
    files: list[formats.FileFindings] = []
    with steps() as step:
        for path in args.models:
            step(f"{path}: checking")
            found = api.check(path, run.rules(path), run.options(path), other_targets=True)
            files.append(formats.FileFindings(str(path), found.findings, found.int8))
    formats.show(args.format, terminal(), files)
    return int(any(file.here for file in files))

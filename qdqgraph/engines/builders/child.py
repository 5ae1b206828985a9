"""Runs a build in a child process that gets its job as a file and returns its result as files."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import EngineError
from . import limits
from .how import Build

MADE = ("result.json", "layers.txt", "layers.json", "profile.json", "times.json")
"""Files that a build may write; existing ones are removed first."""


@contextmanager
def built(child: str, what: str, job: Mapping[str, object], how: Build) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Runs the module `child` of this package on a job; yields the folder with its files, and its result.

    Args:
        child: the module name.
        what: the name of the builder in messages.
        job: the job, written as JSON.
        how: limits and output folder of the build.

    Raises:
        EngineError: the build failed, crashed or exceeded a limit.
    """
    with tempfile.TemporaryDirectory(prefix="qdqgraph-") as temporary:
        folder = how.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for old in MADE:
            (folder / old).unlink(missing_ok=True)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = (sys.executable, "-m", f"{__package__}.{child}", str(folder / "job.json"))
        log, path = folder / "build.log", {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        code = limits.run(command, what, log, how.limits, path)
        if code or not (folder / "result.json").is_file():
            raise EngineError(f"{what} failed with exit code {code}{limits.last_words(log)}")
        yield folder, json.loads((folder / "result.json").read_text(encoding="utf-8"))

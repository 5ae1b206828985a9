"""A build in a process of its own: the job goes in as a file, and what it made comes back as files."""

from __future__ import annotations

import json
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
"""What a build may write; earlier ones are removed first."""


@contextmanager
def built(child: str, what: str, job: Mapping[str, object], how: Build) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Runs `qdqgraph.engines.CHILD` on a job: the folder with all it wrote, and its result.

    Args:
        what: what to call it in messages.

    Raises:
        EngineError: it failed, crashed or passed a limit.
    """
    with tempfile.TemporaryDirectory(prefix="qdqgraph-") as temporary:
        folder = how.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for old in MADE:
            (folder / old).unlink(missing_ok=True)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = (sys.executable, "-m", f"{__package__}.{child}", str(folder / "job.json"))
        log, path = folder / "build.log", {"PYTHONPATH": ":".join(p for p in sys.path if p)}
        code = limits.run(command, what, log, how.limits, path)
        if code or not (folder / "result.json").is_file():
            raise EngineError(f"{what} failed with exit code {code}{limits.last_words(log)}")
        yield folder, json.loads((folder / "result.json").read_text(encoding="utf-8"))

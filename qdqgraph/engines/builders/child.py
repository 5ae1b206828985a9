"""Runs a build in a child process that gets its job as a file and returns its result as files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import EngineError
from ...model.writing.folders import temporary_folder
from . import limits
from .how import Build

MADE = ("result.json", "layers.txt", "layers.json", "profile.json", "times.json", "model.engine")
"""Files that a build may write; existing ones are removed first."""


ISOLATED = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv.pop(1))
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module with the given search path."""


def isolated(module: str, *arguments: str) -> tuple[str, ...]:
    """Returns the command that runs a module of ours in a new interpreter, without imports from the current folder.

    `-I` ignores the current folder, PYTHONPATH and the user's site-packages. The search path is ours without the
    current folder. The folder of this package comes last, because in a source tree it may be the current one.
    """
    own = str(Path(__file__).resolve().parents[3])
    path = [entry for entry in sys.path if entry and entry != own and Path(entry).resolve() != Path.cwd()]
    return (sys.executable, "-I", "-c", ISOLATED, json.dumps([*path, own]), module, *arguments)


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
    with temporary_folder() as temporary:
        folder = how.keep or temporary
        folder.mkdir(parents=True, exist_ok=True)
        for old in MADE:
            (folder / old).unlink(missing_ok=True)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        log = folder / "build.log"
        code = limits.run(isolated(f"{__package__}.{child}", str(folder / "job.json")), what, log, how.limits)
        if code or not (folder / "result.json").is_file():
            raise EngineError(f"{what} failed with exit code {code}{limits.last_words(log)}")
        yield folder, json.loads((folder / "result.json").read_text(encoding="utf-8"))

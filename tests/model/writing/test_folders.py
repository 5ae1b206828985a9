"""Temporary folders: removed at the end, and those of killed runs by the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qdqgraph.model.writing.folders import remove_abandoned, temporary_folder
from tests.support.paths import ROOT

KILLED = """
import os, signal
from qdqgraph.model.writing.folders import temporary_folder
with temporary_folder() as folder:
    (folder / "weights").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed(place: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False).returncode == -signal.SIGKILL


def test_a_folder_is_empty_private_and_removed_at_the_end(place: Path) -> None:
    with temporary_folder() as folder:
        assert folder.parent == place and list(folder.iterdir()) == [] and folder.stat().st_mode & 0o777 == 0o700
        (folder / "sub").mkdir()
        (folder / "sub" / "file").touch()
    assert list(place.iterdir()) == []


def test_an_error_removes_it(place: Path) -> None:
    with pytest.raises(KeyError), temporary_folder():
        raise KeyError("mine")
    assert list(place.iterdir()) == []


def test_the_next_run_removes_what_a_killed_one_left_and_nothing_else(place: Path) -> None:
    killed(place)
    (left,) = place.iterdir()
    assert (left / "weights").exists()
    (place / "qdqgraph-notes").mkdir()
    outside = place / "outside"
    outside.mkdir()
    (place / "qdqgraph-1-0123abcd").symlink_to(outside)
    (place / "qdqgraph-2-0123abcd").touch()
    with temporary_folder() as folder:
        names = {path.name for path in place.iterdir()}
        assert names == {"qdqgraph-notes", "outside", "qdqgraph-1-0123abcd", "qdqgraph-2-0123abcd", folder.name}
        remove_abandoned()
        assert folder.exists(), "this process has its lock"


def test_a_folder_taken_for_abandoned_before_it_was_locked_is_replaced(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path.mkdir
    made: list[Path] = []

    def mkdir(path: Path, mode: int = 0o777) -> None:
        own(path, mode)
        made.append(path)
        if len(made) == 1:
            remove_abandoned()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with temporary_folder() as folder:
        assert len(made) == 2 and folder == made[1] and not made[0].exists()


def test_a_file_system_without_locks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    killed(place)
    monkeypatch.setattr("fcntl.flock", flock)
    with temporary_folder() as folder:
        assert len(list(place.iterdir())) == 2, "nothing is taken for abandoned"
        assert folder.exists()
    assert not folder.exists()

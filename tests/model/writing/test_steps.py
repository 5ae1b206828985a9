"""Every step of a write fails in turn, with an error and with a kill: the old result or the new one, complete."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qdqgraph.errors import QdqgraphError
from tests.support.paths import ROOT
from tests.support.writes import SCENES, Scene, files, fresh, interrupted

HIDDEN = ".qdqgraph-"


def stop() -> None:
    raise KeyboardInterrupt


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("kind", SCENES)
def test_each_step_fails_with_an_error(tmp_path: Path, kind: str) -> None:
    template = Scene(tmp_path / "template", kind)
    template.folder.mkdir()
    template.prepare()
    before, was = files(template.folder), template.weights()
    done = fresh(template, tmp_path / "done")
    done.run()
    new, names = done.weights(), set(files(done.folder))
    at, failed = 0, 0
    while True:
        scene, refused = fresh(template, tmp_path / f"{at}"), False
        with interrupted(at, full) as reached:
            try:
                scene.run()
            except QdqgraphError as error:
                refused = True
                assert "No space left on device" in str(error) and "written" in str(error)
        if len(reached) <= at:
            break
        assert scene.loads()
        scene.next_run()
        left = files(scene.folder)
        if refused:  # nothing at all has changed
            failed += 1
            assert left == before and scene.weights() == was
        else:  # the new result; data of the replaced model may be left if they could not be removed
            assert scene.weights() == new
            assert names <= set(left) <= names | {"b/old.data", "b/back.data"}
        at += 1
    assert failed >= 8 and at > failed


def test_each_step_is_interrupted_in_a_program_that_calls_the_api(tmp_path: Path) -> None:
    """Ctrl-C between any two steps: after the next run, the old files or the new ones, and no data of a replaced model."""
    template = Scene(tmp_path / "template", "replaced")
    template.folder.mkdir()
    template.prepare()
    done = fresh(template, tmp_path / "done")
    done.run()
    before, after, at, more = files(template.folder), files(done.folder), 0, True
    states = []
    while more:
        scene = fresh(template, tmp_path / f"{at}")
        with interrupted(at, stop) as reached, contextlib.suppress(KeyboardInterrupt):
            scene.run()
        more = len(reached) > at
        assert scene.loads()
        scene.next_run()
        left = files(scene.folder)
        states.append("old" if left == before else "new" if left == after else ", ".join(left))
        at += 1
    assert states == sorted(states, reverse=True) and {"old", "new"} == set(states)


def test_a_signal_while_the_files_get_their_names_ends_the_command_when_all_have_them(tmp_path: Path) -> None:
    template = Scene(tmp_path / "template", "replaced")
    template.folder.mkdir()
    template.prepare()
    done = fresh(template, tmp_path / "done")
    with interrupted(10**6, stop) as steps:
        done.run()
    before, after = files(template.folder), files(done.folder)
    first = steps.index("link")  # the first file that is replaced
    created = steps.index("create")
    for at in (created, first, len(steps) - 1):  # each is a process of its own
        scene = fresh(template, tmp_path / f"{at}")
        command = ["fix", "a/model.onnx", "-o", "b/fixed.onnx", "--plan", "b/plan.json", "--force", "--no-config"]
        code = f"""
import os, signal, sys
from tests.support.writes import interrupted
from qdqgraph.cli import entry
sys.argv[1:] = {command!r}
with interrupted({at}, lambda: os.kill(os.getpid(), signal.SIGTERM), after={at == created}):
    entry()
"""
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=scene.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert run.returncode == 143 and run.stderr.count("qdqgraph: terminated, ") == 1
        assert files(scene.folder) == (before if at < first else after)
        assert ("nothing was written" in run.stderr) == (at < first)


@pytest.mark.parametrize("kind", SCENES)
def test_each_step_ends_in_a_kill(tmp_path: Path, kind: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.writes", str(tmp_path), kind],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    rows = json.loads(run.stdout)
    *killed, last = rows
    assert len(killed) >= 15 and not last["killed"] and last["state"] == "new"
    for row in killed:
        assert row["killed"] and row["loads"] and row["kept"]
        assert not [name for name in row["names"] if HIDDEN in name]
        assert row["state"] in ("old", "new")
        assert row["names"] == last["names"] if row["state"] == "new" else row["again"] == last["names"]
    states = [row["state"] for row in killed]
    assert states == sorted(states, reverse=True) and {"old", "new"} == set(states)  # from one step on

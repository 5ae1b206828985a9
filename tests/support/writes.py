"""Writes whose steps fail in turn, with an error or with the end of the process, and what is on the disk afterwards.

As a program, `python -m tests.support.writes FOLDER SCENE` kills a process at each step and prints what was left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import qdqgraph
from qdqgraph.errors import QdqgraphError
from qdqgraph.model.writing import steps
from qdqgraph.model.writing.texts import write_text
from tests.support.models import build

MODEL = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }"
STEPS = ("create", "write", "sync", "set_mode", "link", "rename", "remove", "make_folder", "sync_folder")
SCENES = ("new", "replaced", "in place", "undone", "inline", "apart")


def with_data(path: Path, location: str, value: float) -> None:
    """Saves a model whose weights lie in a file beside it."""
    model = build(MODEL)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(5000, value, np.float32), "weights"))
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=1000)


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@dataclass(frozen=True)
class Scene:
    """A write in a folder.

    Attributes:
        folder: where everything lies.
        kind: one of `SCENES`.
    """

    folder: Path
    kind: str

    def prepare(self) -> None:
        """Writes the inputs, the results of an earlier run, and another model whose data have a common name."""
        a, b = self.folder / "a", self.folder / "b"
        for place in (a, b, self.folder / "c"):
            place.mkdir()
        with_data(a / "model.onnx", "weights.data", 1.0)
        with_data(b / "precious.onnx", "weights.data", 2.0)
        if self.kind == "inline":
            onnx.save(build(MODEL), a / "model.onnx")
            (a / "weights.data").unlink()
        if self.kind in ("replaced", "inline", "apart"):
            with_data(b / "fixed.onnx", "old.data", 3.0)
            self.plan.write_text("the plan of an earlier run")
        if self.kind == "undone":
            qdqgraph.fix(a / "model.onnx", output=b / "fixed.onnx", plan=self.plan)
            with_data(b / "back.onnx", "back.data", 4.0)
            (b / "precious.onnx").unlink()
            (b / "weights.data").unlink()

    @property
    def plan(self) -> Path:
        return self.folder / ("c" if self.kind == "apart" else "b") / "plan.json"

    @property
    def output(self) -> Path:
        names = {"in place": "a/model.onnx", "undone": "b/back.onnx"}
        return self.folder / names.get(self.kind, "b/fixed.onnx")

    def run(self) -> None:
        """The write."""
        a, b = self.folder / "a", self.folder / "b"
        if self.kind == "undone":
            qdqgraph.undo(self.plan, b / "fixed.onnx", output=self.output, force=True)
        else:
            qdqgraph.fix(a / "model.onnx", output=self.output, plan=self.plan, force=True)

    def loads(self) -> bool:
        """Whether each model loads with its data, and is accepted."""
        for path in self.folder.rglob("*.onnx"):
            onnx.checker.check_model(str(path))
            onnx.load(path)
        return True

    def weights(self) -> tuple[float, int] | None:
        """The weights of the output, and its number of nodes; None if there is none."""
        if not self.output.exists():
            return None
        model = onnx.load(self.output)
        found = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "weights"]
        return (float(found[0].max()) if found else 0.0), len(model.graph.node)

    def next_run(self) -> None:
        """Another command that writes into the same folders."""
        for place in {self.output.parent, self.plan.parent}:
            write_text("another result", place / "other.txt", force=True)
        for place in {self.output.parent, self.plan.parent}:
            (place / "other.txt").unlink()


@contextmanager
def interrupted(at: int, how: Callable[[], None], after: bool = False) -> Iterator[list[str]]:
    """Lets something happen instead of a step, or right after it; yields the names of the steps that were reached."""
    reached: list[str] = []
    own = {name: getattr(steps, name) for name in STEPS}

    def counted(name: str) -> Callable[..., object]:
        def step(*arguments: object) -> object:
            reached.append(name)
            if len(reached) - 1 != at:
                return own[name](*arguments)
            if not after:
                how()
            result = own[name](*arguments)
            if after:
                how()
            return result

        return step

    for name in STEPS:
        setattr(steps, name, counted(name))
    try:
        yield reached
    finally:
        for name, function in own.items():
            setattr(steps, name, function)


def kill() -> None:
    """Ends this process as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed(scene: Scene, at: int) -> bool:
    """Runs the write in a process that is killed at a step; returns whether it was reached."""
    process = os.fork()
    if not process:
        with interrupted(at, kill):
            try:
                scene.run()
            except QdqgraphError:
                os._exit(1)
        os._exit(0)
    status = os.waitpid(process, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def fresh(template: Scene, folder: Path) -> Scene:
    """A copy of a prepared scene."""
    shutil.copytree(template.folder, folder)
    return Scene(folder, template.kind)


def main(folder: Path, kind: str) -> None:
    """Kills the write of a scene at each step in turn; prints a list of what was there after each."""
    template = Scene(folder / kind, kind)
    template.folder.mkdir()
    template.prepare()
    before, was = files(template.folder), template.weights()
    found: list[dict[str, object]] = []
    more = True
    while more:
        scene = fresh(template, folder / f"{kind}{len(found)}")
        more = killed(scene, len(found))
        now, loads = scene.weights(), scene.loads()
        scene.next_run()
        after = files(scene.folder)
        row: dict[str, object] = {"killed": more, "loads": loads and scene.loads(), "kept": scene.weights() == now}
        row["state"] = "old" if after == before else "new" if now != was else "neither"
        row["names"] = sorted(after)
        if row["state"] == "old":
            scene.run()
        row["again"] = sorted(files(scene.folder))
        found.append(row)
    print(json.dumps(found))  # noqa: T201 - the result of this program


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

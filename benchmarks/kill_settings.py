"""`Setting`: a folder with models, and a command that writes into it, for `benchmarks.kills`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import onnx

from benchmarks.kill_processes import ended
from qdqgraph.cli import fix as _fix  # noqa: F401 - loaded once, before the forks
from tests.support.models import build
from tests.support.writes import MODEL, with_data

COMMANDS = ("fix",) * 4 + ("fp16", "int8", "strip", "apply", "undo")
QUIET = ("--no-numerics", "--no-config", "--no-packs")


@dataclass(frozen=True)
class Setting:
    """A folder with inputs and a command that writes into it.

    Attributes:
        folder: contains everything.
        command: one of `COMMANDS`.
        external: whether the weights of the model are in a file beside it.
        output: the model that is written, below the folder.
        plan: the plan that is written or read; "" for none.
        earlier: whether there is an earlier result, which is replaced.
    """

    folder: Path
    command: str
    external: bool
    output: str
    plan: str
    earlier: bool

    @classmethod
    def drawn(cls, folder: Path, random: Random) -> Setting:
        """A setting, chosen by a generator."""
        command, external = random.choice(COMMANDS), random.random() < 0.6
        output = random.choice(("b/out.onnx", "b/out.onnx", "a/out.onnx", "a/model.onnx"))
        if command in ("apply", "undo"):
            return cls(folder, command, external, "c/out.onnx", "c/plan.json", random.random() < 0.6)
        plan = "" if command == "strip" else random.choice(("", "b/plan.json", "c/plan.json"))
        if output == "a/model.onnx" and not plan:  # only with a plan, from which the original comes back
            output = "b/out.onnx"
        return cls(folder, command, external, output, plan, random.random() < 0.6)

    @property
    def source(self) -> str:
        """The model that is read, below the folder."""
        return "a/fixed.onnx" if self.command == "undo" else "a/model.onnx"

    def prepare(self) -> None:
        """Writes the inputs, somebody else's model, and the earlier result."""
        for name in "abc":
            (self.folder / name).mkdir(parents=True)
        model = self.folder / "a/model.onnx"
        if self.external:
            with_data(model, "weights.data", 1.0)
        else:
            onnx.save(build(MODEL), model)
        with_data(self.folder / "b/precious.onnx", "weights.data", 2.0)
        if self.command in ("apply", "undo"):
            ended(self.folder, ["fix", "a/model.onnx", "-o", "a/fixed.onnx", "--plan", self.plan, *QUIET])
        if self.earlier and self.output != "a/model.onnx":
            with_data(self.folder / self.output, "old.data", 3.0)
            if self.plan and self.command not in ("apply", "undo"):
                (self.folder / self.plan).write_text("the plan of an earlier run")

    @property
    def arguments(self) -> list[str]:
        """The command line, in the folder."""
        out = ["-o", self.output, "--force"]
        if self.command in ("apply", "undo"):
            return [self.command, self.plan, self.source, *out]
        if self.command == "strip":
            return ["strip", self.source, "--nodes", "y", *out]
        more = {"fp16": ["--fp16"], "int8": ["--weights", "int8"]}.get(self.command, [])
        return ["fix", self.source, *out, *(["--plan", self.plan] if self.plan else []), *more, *QUIET]

    def loaded(self, folder: Path) -> str:
        """A digest of the output with its data; "none" without one, "damaged" if it does not load."""
        path = folder / self.output
        if not path.exists():
            return "none"
        try:
            model = onnx.load(path)
            onnx.checker.check_model(str(path))
        except Exception:  # noqa: BLE001 - onnx raises several
            return "damaged"
        for tensor in model.graph.initializer:
            np.array(onnx.numpy_helper.to_array(tensor))
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
        return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()

"""Many small engines from one process of TensorRT-RTX, because most of the time of a tiny build is the start."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import onnx

from qdqgraph.engines.builders import tensorrt_child
from qdqgraph.engines.builders.how import shapes
from qdqgraph.engines.layers import Engine
from qdqgraph.engines.read import listing
from qdqgraph.graph.graph import Graph
from tests.support.paths import ROOT

WEIGHTED = frozenset({"correlation", "deconv", "gemm"})
"""Kinds of TensorRT-RTX layers that multiply: convolution, transposed convolution, matrix product."""


class Builder:
    """A process that builds engines until it is closed; one that crashes is started again for the next engine."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="qdqgraph-")
        self.child: subprocess.Popen[str] | None = None

    @staticmethod
    def installed() -> bool:
        """Whether TensorRT-RTX is installed."""
        return importlib.util.find_spec("tensorrt_rtx") is not None

    def build(self, model: onnx.ModelProto) -> Engine | str:
        """The engine of a model, or why there is none, in one line."""
        place = Path(self.folder.name)
        for old in place.iterdir():
            old.unlink()
        onnx.save(model, place / "model.onnx")
        job = {
            "module": "tensorrt_rtx",
            "model": str(place / "model.onnx"),
            "shapes": {name: list(dims) for name, dims in shapes(Graph(model), {}).items()},
            "network": ["STRONGLY_TYPED"],
            "flags": [],
            "compute_capability": "SM89",
            "inspect": False,
        }
        (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
        child = self._started()
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(f"{place}\n")
        child.stdin.flush()
        if not child.stdout.readline():
            self.close()
            return "crashed"
        result = json.loads((place / "result.json").read_text(encoding="utf-8"))
        if result.get("failed"):
            said = [e["text"] for e in result["errors"]] or result.get("said", []) or ["no reason given"]
            return " ".join(said[0].split())[:300]
        layers = listing.layers((place / "layers.txt").read_text(encoding="utf-8"))
        return Engine("model", f"TensorRT-RTX {result['version']}", layers)

    def _started(self) -> subprocess.Popen[str]:
        if self.child is None:
            command = [sys.executable, "-m", __name__]
            path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
            self.child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=path
            )
        return self.child

    def close(self) -> None:
        """Ends the process."""
        if self.child is not None:
            self.child.kill()
            self.child.communicate()
            self.child = None

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
        self.folder.cleanup()


def int8_layers(engine: Engine) -> tuple[int, int]:
    """How many weighted layers of an engine read INT8, and how many there are."""
    weighted = [layer for layer in engine.working if layer.kind in WEIGHTED]
    return sum(any(t.precision == "INT8" for t in x.inputs) for x in weighted), len(weighted)


def main() -> None:
    """Builds the job of each folder that a line of stdin names; answers with a line."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library and its bindings print is no answer
    for line in sys.stdin:
        place = Path(line.strip())
        result = tensorrt_child.build(json.loads((place / "job.json").read_text(encoding="utf-8")), place)
        (place / "result.json").write_text(json.dumps(result), encoding="utf-8")
        answers.write("built\n")
        answers.flush()


if __name__ == "__main__":
    main()

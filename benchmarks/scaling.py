"""Time of check and fix against graph size, compared to onnx.load + onnx.save of the same file in the same run.

The last column is the time of a check in one process, with all rules, divided by onnx-graphsurgeon's import of the
graph.

    python benchmarks/scaling.py [--nodes 1000 5000 20000 100000]

The graph is a repeated detector backbone: C3-like blocks with SiLU, residual Adds, Concats and a pool. Every
convolution has its own pair and scale constant, as in TorchScript exports. `check` and `fix` run as whole command-line
processes, including the start of the interpreter.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper

import qdqgraph


class Net:
    """A graph that grows by blocks; 8 channels, 8x8."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        weights = np.random.default_rng(0).integers(-100, 100, (8, 16, 1, 1)).astype(np.int8)
        self.inits = [
            numpy_helper.from_array(weights[:, :8].copy(), "w8"),
            numpy_helper.from_array(weights, "w16"),
            numpy_helper.from_array(np.full(8, 0.01, np.float32), "ws"),
            numpy_helper.from_array(np.zeros(8, np.int8), "wz"),
        ]
        self.random = np.random.default_rng(1)

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        """Appends a node; returns its output."""
        out = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))  # type: ignore[arg-type]
        return out

    def conv(self, x: str, weights: str = "w8") -> str:
        """Q → DQ → Conv → SiLU, with its own constants."""
        scale = np.asarray(self.random.uniform(0.08, 0.12), np.float32)
        s = self.node("Constant", [], value=numpy_helper.from_array(scale))
        z = self.node("Constant", [], value=numpy_helper.from_array(np.asarray(0, np.int8)))
        d = self.node("DequantizeLinear", [self.node("QuantizeLinear", [x, s, z]), s, z])
        k = self.node("DequantizeLinear", [weights, "ws", "wz"], axis=0)
        c = self.node("Conv", [d, k])
        return self.node("Mul", [c, self.node("Sigmoid", [c])])

    def block(self, x: str) -> str:
        """Two branches, one with a residual Add, joined by a Concat; then a pool."""
        a = self.conv(x)
        b = self.node("Add", [a, self.conv(self.conv(a))])
        joined = self.node("Concat", [b, self.conv(x)], axis=1)
        y = self.conv(joined, "w16")
        return self.node("MaxPool", [y], kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def model(self, size: int) -> onnx.ModelProto:
        """A model of at least `size` nodes."""
        x = "x"
        while len(self.nodes) < size:
            x = self.block(x)
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8, 8, 8]) for n in ("x", x)]
        graph = helper.make_graph(self.nodes, "backbone", values[:1], values[1:], self.inits)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def timed(*words: str) -> float:
    """Wall time of a command in seconds."""
    start = time.perf_counter()
    run = subprocess.run([sys.executable, "-m", "qdqgraph", *words], capture_output=True, text=True, check=False)
    if run.returncode > 1:
        raise SystemExit(run.stderr)
    return time.perf_counter() - start


def in_process(model: onnx.ModelProto) -> tuple[float, float]:
    """Seconds of onnx-graphsurgeon's import of the graph, and of a check with all rules including it; best of 5."""

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    rules = qdqgraph.rules(installed=False)
    gc.set_threshold(100_000, 50, 50)  # as on the command line
    return best(lambda: gs.import_onnx(model)), best(lambda: qdqgraph.check(model, rules))


def main() -> None:
    """Prints one row per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 5000, 20000, 100000])
    sizes = parser.parse_args().nodes
    print("| nodes | onnx.load + onnx.save | check | fix --no-numerics | check + fix | check / import |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path, out = Path(folder) / f"{size}.onnx", Path(folder) / f"{size}.fixed.onnx"
            model = Net().model(size)
            onnx.save(model, path)
            start = time.perf_counter()
            onnx.save(onnx.load(path), path)
            base = time.perf_counter() - start
            check = timed("check", str(path))
            fix = timed("fix", str(path), "-o", str(out), "--no-numerics")
            importing, checking = in_process(model)
            row = [f"{len(model.graph.node):,}", *(f"{t:.2f} s" for t in (base, check, fix, check + fix))]
            print("|", " | ".join([*row, f"{checking / importing:.1f}"]), "|", flush=True)


if __name__ == "__main__":
    main()

"""What a repair changes in a real TensorRT build, and what it costs: one row per network.

    python benchmarks/placement_table.py --judge JUDGE.py [--max-bits-lost 2.5] MODEL.onnx [...]

JUDGE.py is any program that takes ONNX files and prints one line per file: the path and a JSON object with `ok`,
`boundary_bytes`, `float_boundary`, `pools`, `conv_int8` and `act` (from a TensorRT-RTX build without a GPU, for
example). Prints a Markdown table; a row whose build fails says so. The table counts residual Adds by whether the right
operand is unquantized.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

import qdqgraph
from qdqgraph import Options
from qdqgraph.calibration.noise import noise
from qdqgraph.rulekit import Graph, key, residuals, sites
from qdqgraph.verify import comparison

COLUMNS = "network, boundary before, after, float after, pools, INT8 conv, act, bits max, bits median, SQNR dB, Adds, s"


def judged(judge: Path, files: list[Path]) -> list[dict[str, Any]]:
    """The figures that JUDGE.py prints for each file."""
    run = subprocess.run([sys.executable, str(judge), *map(str, files)], capture_output=True, text=True, check=False)
    lines = [line[line.index("{") :] for line in run.stdout.splitlines() if "{" in line]
    return [json.loads(line) for line in lines] if len(lines) == len(files) else [{"ok": False}] * len(files)


def bare_sides(model: onnx.ModelProto) -> tuple[int, int, list[str]]:
    """Residual Adds between INT8 layers: how many are right, how many have no scale in the graph, and which are wrong.

    Right: the convolution operand is unquantized, and every skip whose scale the graph contains has a pair.
    """
    graph = Graph(model)
    right, unknown, wrong = 0, 0, []
    for found in residuals(graph):
        name = key(found.add)
        if name not in sites(graph).feeds:
            continue
        bare = [s for s in found.skips if s.pair is None]
        if (found.conv is not None and found.conv.pair is not None and not any(s.fusible for s in bare)) or any(
            s.site in sites(graph).covered for s in bare
        ):
            wrong.append(name)
        elif bare:
            unknown += 1
        else:
            right += 1
    return right, unknown, wrong


def row(path: Path, judge: Path, limit: float, folder: Path) -> str:
    """One line of the table."""
    model = onnx.load(path)
    start = time.perf_counter()
    result = qdqgraph.fix(model, qdqgraph.rules(), Options(max_bits_lost=limit))
    seconds = time.perf_counter() - start
    out = folder / path.name
    onnx.save(result.model, out)
    onnx.checker.check_model(str(out))
    if qdqgraph.fix(result.model, qdqgraph.rules(), Options(max_bits_lost=limit)).plan.edits:
        return f"| {path.stem} | FAILED: a second run changes something |"
    lost = [c.lost for c in result.changes] or [0.0]
    feeds = noise(model)
    agreement = comparison.compare(model, result.model, feeds, path.parent)
    sqnr = min(a.sqnr for a in agreement.values())
    before, after = judged(judge, [path, out])
    right, unknown, wrong = bare_sides(result.model)
    adds = f"{right} right, {unknown} without scale" + (f", WRONG: {', '.join(wrong)}" if wrong else "")
    if not (before["ok"] and after["ok"]):
        return f"| {path.stem} | build: before {before}, after {after} |"
    cells = [
        path.stem,
        f"{before['boundary_bytes']:,}",
        f"{after['boundary_bytes']:,}",
        f"{after['float_boundary']:,}",
        f"{before['pools']} → {after['pools']}",
        f"{before['conv_int8']} → {after['conv_int8']}",
        f"{before['act']:,} → {after['act']:,}",
        f"{max(lost):.2f}",
        f"{statistics.median(lost):.2f}",
        f"{sqnr:.1f}",
        adds,
        f"{seconds:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--max-bits-lost", type=float, default=1.0)
    args = parser.parse_args()
    print("| " + COLUMNS.replace(", ", " | ") + " |")
    print("|" + " --- |" * len(COLUMNS.split(", ")))
    with tempfile.TemporaryDirectory() as folder:
        for path in args.models:
            try:
                print(row(path, args.judge, args.max_bits_lost, Path(folder)), flush=True)
            except qdqgraph.QdqgraphError as error:
                print(f"| {path.stem} | FAILED: {str(error).splitlines()[0]} |", flush=True)


if __name__ == "__main__":
    main()

"""What FP16 outside INT8 changes in a real TensorRT build, and what it costs: one row per network.

    python benchmarks/fp16_table.py --judge JUDGE.py [--also CODES] MODEL.onnx [...]

JUDGE.py is that of placement_table.py; the table shows the bytes stored as Float and as Half between convolution blocks
(its `boundary`). Each model is repaired first, then its FP32 and FP16 forms are compared. Inputs come from MODEL.npz in
the same folder, or are seeded noise. The last SQNR column shows the FP32 form with only the input rounded to FP16,
because INT8 may round a value near the midpoint of two steps to either one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx

import qdqgraph
from qdqgraph.calibration.agreement import agreement
from qdqgraph.calibration.data.sources import samples_of
from qdqgraph.calibration.noise import noise
from qdqgraph.calibration.ranges import measured_ranges
from qdqgraph.fp16 import Fp16Model, to_fp16
from qdqgraph.model import runtime

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.placement_table import judged

COLUMNS = (
    "network, Float before, Float after, Half after, INT8 conv, Casts, stays FP32, scales change, SQNR dB, "
    "input only dB, s"
)


def worst(reference: list[list[np.ndarray]], found: list[list[np.ndarray]]) -> float:
    """The smallest SQNR of any floating-point output."""
    columns = range(len(reference[0]))
    wide = [[[np.asarray(o[i], np.float64) for o in side] for side in (reference, found)] for i in columns]
    return min(agreement(*sides).sqnr for i, sides in enumerate(wide) if reference[0][i].dtype.kind == "f")


def in_half(feeds: list[runtime.Feed]) -> list[runtime.Feed]:
    """The samples with floating-point arrays rounded to FP16."""
    return [{n: a.astype(np.float16) if a.dtype.kind == "f" else a for n, a in feed.items()} for feed in feeds]


def stays(made: Fp16Model) -> str:
    """Number of nodes that stay FP32, by operator."""
    counts = Counter(k.op for k in made.kept)
    return ", ".join(f"{count} {op}" for op, count in counts.most_common()) or "nothing"


def row(path: Path, judge: Path, folder: Path, also: tuple[str, ...]) -> str:
    """One line of the table."""
    model = qdqgraph.fix(str(path), also=also).model
    data = path.with_suffix(".npz")
    feeds = list(samples_of(data, model)) if data.exists() else noise(model)
    start = time.perf_counter()
    made = to_fp16(model, path.parent, ranges=measured_ranges(model, feeds, path.parent))
    seconds = time.perf_counter() - start
    files = [folder / f"{path.stem}.fp32.onnx", folder / f"{path.stem}.fp16.onnx"]
    for one, file in zip((model, made.model), files, strict=True):
        onnx.save(one, file)
        onnx.checker.check_model(str(file), full_check=True)
    reference = runtime.run(model, feeds, path.parent)
    found = runtime.run(made.model, feeds, folder)
    nudged = runtime.run(model, in_half(feeds), path.parent)
    before, after = judged(judge, files)
    if not (before["ok"] and after["ok"]):
        return f"| {path.stem} | build: before {before}, after {after} |"
    cells = [
        path.stem,
        f"{before['boundary'].get('Float', 0):,}",
        f"{after['boundary'].get('Float', 0):,}",
        f"{after['boundary'].get('Half', 0):,}",
        f"{before['conv_int8']} → {after['conv_int8']}",
        str(made.casts),
        stays(made),
        f"{made.scale_change:.1e}",
        f"{worst(reference, found):.1f}",
        f"{worst(reference, nudged):.1f}",
        f"{seconds:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--also", action="append", default=[])
    args = parser.parse_args()
    print("| " + COLUMNS.replace(", ", " | ") + " |")
    print("|" + " --- |" * len(COLUMNS.split(", ")))
    with tempfile.TemporaryDirectory() as folder:
        for path in args.models:
            try:
                print(row(path, args.judge, Path(folder), tuple(args.also)), flush=True)
            except qdqgraph.QdqgraphError as error:
                print(f"| {path.stem} | FAILED: {str(error).splitlines()[0]} |", flush=True)


if __name__ == "__main__":
    main()

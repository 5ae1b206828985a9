"""What FP16 around INT8 changes in a real TensorRT build, and what it costs: one row a network.

    python benchmarks/half_table.py --judge JUDGE.py MODEL.onnx [...]

JUDGE.py as in placement_table.py; of its `boundary` the bytes stored as Float and as Half between convolution blocks are
shown. A MODEL.npz beside a model holds its inputs; without one they are seeded noise. The SQNR compares the FP16 model with the
FP32 one in ONNX Runtime; beside it stands what rounding nothing but the input to FP16 does to the FP32 model, because INT8
rounds a value near the middle of two steps either way.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx

import qdqgraph
from qdqgraph import numerics
from qdqgraph.half import Halved, halve

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.placement_table import judged

COLUMNS = "network, Float before, Float after, Half after, INT8 conv, Casts, stays FP32, scales change, SQNR dB, input alone dB"


def worst(reference: list[list[np.ndarray]], found: list[list[np.ndarray]]) -> float:
    """The smallest SQNR of any floating-point output."""
    columns = range(len(reference[0]))
    wide = [[[np.asarray(o[i], np.float64) for o in side] for side in (reference, found)] for i in columns]
    return min(numerics.agreement(*sides).sqnr for i, sides in enumerate(wide) if reference[0][i].dtype.kind == "f")


def in_half(feeds: list[numerics.Feed], model: onnx.ModelProto) -> list[numerics.Feed]:
    """The samples in the types of the model's inputs."""
    kinds = {i.name: onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in model.graph.input}
    return [{name: array.astype(kinds[name]) for name, array in feed.items()} for feed in feeds]


def stays(made: Halved) -> str:
    """How many nodes stay FP32, by operator."""
    counts = Counter(k.op for k in made.kept)
    return ", ".join(f"{count} {op}" for op, count in counts.most_common()) or "nothing"


def row(path: Path, judge: Path, folder: Path) -> str:
    """One line of the table."""
    model = onnx.load(path)
    data = path.with_suffix(".npz")
    feeds = numerics.load(data, model) if data.exists() else numerics.noise(model)
    made = halve(model, path.parent, ranges=numerics.ranges(model, feeds, path.parent))
    out = folder / path.name
    onnx.save(made.model, out)
    onnx.checker.check_model(str(out), full_check=True)
    reference = numerics.run(model, feeds, path.parent)
    halves = in_half(feeds, made.model)
    found = numerics.run(made.model, halves, folder)
    nudged = numerics.run(model, in_half(halves, model), path.parent)
    before, after = judged(judge, [path, out])
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
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--judge", type=Path, required=True)
    args = parser.parse_args()
    print("| " + COLUMNS.replace(", ", " | ") + " |")
    print("|" + " --- |" * len(COLUMNS.split(", ")))
    with tempfile.TemporaryDirectory() as folder:
        for path in args.models:
            try:
                print(row(path, args.judge, Path(folder)), flush=True)
            except qdqgraph.QdqgraphError as error:
                print(f"| {path.stem} | FAILED: {str(error).splitlines()[0]} |", flush=True)


if __name__ == "__main__":
    main()

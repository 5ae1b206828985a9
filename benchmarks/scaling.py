"""Time and memory of check and fix against graph size, beside onnx.load + onnx.save of the same file in the same run.

    python -m benchmarks.scaling [--nodes 1000 5000 20000 100000] [--kinds backbone Transpose …] [--network FILE …]

Without --kinds, the detector backbone at every size, then every kind of `growing` at the first and the last size up to
--most nodes. A network from a file is measured with its largest block repeated. All times are CPU time (user and
system) of whole processes, including the start of the interpreter; memory is the peak of the process. The exponent is
that of the time above an almost empty graph, between the smallest and the largest size: 1 is linear.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from benchmarks.growing import KINDS, repeated

Make = Callable[[int], onnx.ModelProto]
FLOOR = "import onnx, sys; onnx.save(onnx.load(sys.argv[1]), sys.argv[2])"
TINY = 60
"""Nodes of the graph that shows what a process costs before it looks at nodes."""


@dataclass(frozen=True)
class Cost:
    """What a process needed: seconds of CPU time, and MiB of memory at its peak."""

    seconds: float
    memory: float


def cost(*words: str) -> Cost:
    """Runs Python with these arguments.

    Raises:
        SystemExit: the process failed.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            errors.seek(0)
            raise SystemExit(errors.read().decode(errors="replace")[-2000:])
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def measured(make: Make, size: int, folder: Path) -> tuple[int, Cost, Cost, Cost]:
    """The nodes of a graph, and what load + save, check and fix cost."""
    path, out = folder / "in.onnx", folder / "out.onnx"
    model = make(size)
    onnx.save(model, path)
    floor = cost("-c", FLOOR, str(path), str(out))
    check = cost("-m", "qdqgraph", "check", str(path), "--no-rehearsal")
    fix = cost("-m", "qdqgraph", "fix", str(path), "-o", str(out), "--no-numerics", "--force")
    return len(model.graph.node), floor, check, fix


def exponent(sizes: tuple[int, int], seconds: tuple[float, float]) -> float:
    """The power of the size with which the time grows."""
    return math.log(max(seconds[1], 0.01) / max(seconds[0], 0.01)) / math.log(sizes[1] / sizes[0])


def table(kinds: Mapping[str, Make], sizes: Sequence[int]) -> None:
    """Prints one row per kind and size, and the exponents."""
    print("| graph | nodes | load + save | check | fix | check MiB | fix MiB | exponents |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _, none, first, second = measured(KINDS["backbone"], TINY, folder)
        for name, make in kinds.items():
            rows = [measured(make, size, folder) for size in sizes]
            start = rows[0]
            for nodes, floor, check, fix in rows:
                shown = [f"{c.seconds - z.seconds:.2f} s" for c, z in ((floor, none), (check, first), (fix, second))]
                powers = ""
                if len(rows) > 1 and nodes == rows[-1][0]:
                    pairs = ((start[2], check, first), (start[3], fix, second))
                    grown = ((a.seconds - z.seconds, b.seconds - z.seconds) for a, b, z in pairs)
                    powers = ", ".join(f"{exponent((start[0], nodes), pair):.2f}" for pair in grown)
                memory = [f"{c.memory:.0f}" for c in (check, fix)]
                print("|", " | ".join([name, f"{nodes:,}", *shown, *memory, powers]), "|", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 5000, 20000, 100000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS)
    parser.add_argument("--network", type=Path, nargs="+", default=[])
    parser.add_argument("--most", type=int, default=20000, help="the largest size of the kinds other than backbone")
    asked = parser.parse_args()
    files = {path.name: partial(repeated, onnx.load(path)) for path in asked.network}
    if asked.kinds or files:
        table({**{name: KINDS[name] for name in asked.kinds or ()}, **files}, asked.nodes)
        return
    table({"backbone": KINDS["backbone"]}, asked.nodes)
    sizes = [size for size in asked.nodes if size <= asked.most]
    table({name: make for name, make in KINDS.items() if name != "backbone"}, [sizes[0], sizes[-1]])


if __name__ == "__main__":
    main()

"""Real exporters on real networks, before and after `qdqgraph fix`.

    python -m benchmarks.exporters make FOLDER --wheels WHEELS [--exporter NAME ...] [--network NAME ...]
    python -m benchmarks.exporters measure FOLDER --wheels WHEELS

`make` writes FOLDER/NETWORK.EXPORTER.onnx for every exporter that this environment has and says what to install for the
others; run it once in the environment of each. `measure` needs qdqgraph[ort,tensorrt] and prints the table of
docs/exporters.md; FOLDER/fixed receives the repaired files. WHEELS holds the networks, see `make`'s first complaint.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .networks import NETWORKS
from .recipes import EXPORTERS, export, missing


def make(folder: Path, wheels: Path, exporters: list[str], networks: list[str]) -> int:
    """Writes the cells that are not there yet; 1 where one failed."""
    failed = 0
    for name in exporters:
        if absent := missing(name):
            print(f"{name}: skipped, {absent}", flush=True)
            continue
        for network in (n for n in EXPORTERS[name].networks if n in networks):
            out = folder / f"{network}.{name}.onnx"
            if out.exists():
                continue
            start = time.perf_counter()
            reason = export(name, network, wheels, out)
            failed += bool(reason)
            print(f"{out.name}: {reason or 'written'}, {time.perf_counter() - start:.0f} s", flush=True)
    return int(failed > 0)


def measure(folder: Path, wheels: Path, exporters: list[str], networks: list[str]) -> int:
    """Prints the table; 1 where a cell failed."""
    from .measure import HEAD, cell

    (folder / "fixed").mkdir(exist_ok=True)
    print(HEAD, "|" + " --- |" * (HEAD.count("|") - 1), sep="\n", flush=True)
    failed = 0
    for name in exporters:
        for path in (folder / f"{network}.{name}.onnx" for network in networks):
            if path.exists():
                measured = cell(path, wheels, folder / "fixed")
                failed += bool(measured.failed)
                print(measured.row(), flush=True)
    return int(failed > 0)


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("make", "measure"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--exporter", nargs="+", choices=EXPORTERS, default=list(EXPORTERS))
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    run = {"make": make, "measure": measure}[args.command]
    return run(args.folder, args.wheels, args.exporter, args.network)


if __name__ == "__main__":
    sys.exit(main())

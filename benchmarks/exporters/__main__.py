"""Real exporters on real networks, before and after `qdqgraph fix`.

    python -m benchmarks.exporters samples WHEELS
    python -m benchmarks.exporters make FOLDER --wheels WHEELS [--exporter NAME ...] [--network NAME ...]
    python -m benchmarks.exporters measure FOLDER --wheels WHEELS [--anew]
    python -m benchmarks.exporters table FOLDER

WHEELS is the folder of the networks: wheels of packages (`make` says which are missing), and the samples of this
repository, which `samples` exports there as float ONNX (needs qdqgraph[torch,ort] and mlxtend). `make` writes
FOLDER/NETWORK.EXPORTER.onnx for every exporter that is installed, and says what to install for the others; run it in
the environment of each exporter. `measure` needs qdqgraph[ort,tensorrt]. It writes the repaired files to FOLDER/fixed
and the results to FOLDER/results.jsonl, and continues an interrupted run. `table` prints the tables of
docs/measurements/exporters.md from that file, and lists rows measured with other rules or sources; `measure --anew`
measures these again.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

from .networks import NETWORKS
from .recipes import EXPORTERS, export, missing


def samples(wheels: Path) -> int:
    """Exports the samples that do not exist yet."""
    from .sample import NAMES, write

    for name in NAMES:
        if not (wheels / NETWORKS[name].path).exists():
            write(name, wheels)
            print(f"{name}: written", flush=True)
    return 0


def make(folder: Path, wheels: Path, exporters: list[str], networks: list[str]) -> int:
    """Writes the missing cells, or NETWORK.EXPORTER.txt with the reason; returns 1 if one failed."""
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
            note = out.with_suffix(".txt")
            note.write_text(reason, encoding="utf-8") if reason else note.unlink(missing_ok=True)
            print(f"{out.name}: {reason or 'written'}, {time.perf_counter() - start:.0f} s", flush=True)
    return int(failed > 0)


def measure(folder: Path, wheels: Path, exporters: list[str], networks: list[str], anew: bool) -> int:
    """Measures cells without a result, with a changed file or (`anew`) other code; returns 1 if one failed."""
    from .measure import Built, Cell, cell, code, digest
    from .table import keep, kept

    (folder / "fixed").mkdir(exist_ok=True)
    results, failed = folder / "results.jsonl", 0
    for name in exporters:
        for path in (folder / f"{network}.{name}.onnx" for network in networks):
            known = kept(results).get(path.name)
            if not path.exists() or (known and known.digest == digest(path) and not (anew and known.code != code())):
                continue
            start = time.perf_counter()
            try:
                measured = cell(path, wheels, folder / "fixed")
            except Exception:  # noqa: BLE001, any failure is recorded for this cell, and the others continue
                reason = traceback.format_exc().strip().splitlines()[-1][:400]
                none = Built(refused=reason)
                measured = Cell(path.name, digest(path), none, none, failed=reason, code=code())
            keep(measured, results)
            failed += bool(measured.failed)
            print(f"{path.name}: {measured.failed or 'measured'}, {time.perf_counter() - start:.0f} s", flush=True)
    return int(failed > 0)


def table(folder: Path, exporters: list[str], networks: list[str]) -> int:
    """Prints the tables; returns 1 if an exported file is not measured yet."""
    from .measure import Cell, code
    from .table import kept, told

    results = kept(folder / "results.jsonl")
    rows: dict[str, list[Cell]] = {}
    unmeasured: list[str] = []
    for name in exporters:
        rows[name] = []
        for stem in (f"{network}.{name}" for network in networks):
            if (folder / f"{stem}.onnx").exists():
                found = results.get(f"{stem}.onnx")
                rows[name] += [found] if found else []
                unmeasured += [] if found else [stem]
            elif (folder / f"{stem}.txt").exists():
                reason = (folder / f"{stem}.txt").read_text(encoding="utf-8")
                rows[name].append(Cell(f"{stem}.onnx", failed=reason))
    print(*told(rows, code()), sep="\n")
    if unmeasured:
        print(f"not measured yet: {', '.join(unmeasured)}", file=sys.stderr)
    return int(bool(unmeasured))


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("samples").add_argument("wheels", type=Path)
    for name in ("make", "measure", "table"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        if name != "table":
            command.add_argument("--wheels", type=Path, required=True)
        if name == "measure":
            command.add_argument(
                "--anew", action="store_true", help="also measure again what other rules or sources produced"
            )
        command.add_argument("--exporter", nargs="+", choices=EXPORTERS, default=list(EXPORTERS))
        command.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    args = parser.parse_args()
    if args.command == "samples":
        return samples(args.wheels)
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.command == "table":
        return table(args.folder, args.exporter, args.network)
    if args.command == "make":
        return make(args.folder, args.wheels, args.exporter, args.network)
    return measure(args.folder, args.wheels, args.exporter, args.network, args.anew)


if __name__ == "__main__":
    sys.exit(main())

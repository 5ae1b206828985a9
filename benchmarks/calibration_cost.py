"""Processor time and peak memory of calibration: `fix --data`, onnxruntime's quantize_static, Model Optimizer.

    python benchmarks/calibration_cost.py FLOAT.onnx PHOTOS_DIR PREPROCESS [--samples 200] [--gibibytes 16]
        [--python TOOL=PYTHON ...] [--tool NAME ...]

The photographs are written once as .npy files, and every tool reads them one at a time; if there are fewer than
`--samples`, they are repeated mirrored and with other brightness. `fix` gets the file that quantize_static writes with
MinMax ranges, symmetric INT8, per channel. Each tool runs in its own process with one thread, and an address space of
at most `--gibibytes`; the seconds are user and system time of that process, the memory is its largest resident set.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.accuracy_table import interpreter, pictures, prepared
from qdqgraph.calibration.data.pictures import read_picture
from qdqgraph.calibration.data.preprocess import Preprocess

READER = """
import sys
from pathlib import Path
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

class Reader(CalibrationDataReader):
    def __init__(self):
        self.rewind()
    def get_next(self):
        file = next(self.files, None)
        return None if file is None else {NAME: np.load(file)}
    def get_first(self):
        return {NAME: np.load(sorted(Path(DATA).glob("*.npy"))[0])}
    def rewind(self):
        self.files = iter(sorted(Path(DATA).glob("*.npy")))
"""
STATIC = """
quant_pre_process("float.onnx", "prepared.onnx", skip_symbolic_shape=True)
quantize_static(
    "prepared.onnx", OUT, Reader(), activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, per_channel=True,
    calibrate_method=CalibrationMethod.METHOD, extra_options=dict(ActivationSymmetric=True, WeightSymmetric=True),
)
"""
OPTIMIZER = """
from modelopt.onnx.quantization import quantize
quantize(
    "float.onnx", quantize_mode="int8", calibration_data_reader=Reader(), calibration_method="METHOD",
    calibration_eps=["cpu"], high_precision_dtype="fp32", output_path=OUT,
)
"""
OURS = """
import sys
sys.path.insert(0, ROOT)
from qdqgraph.cli import main
sys.exit(main(["fix", "qdq.onnx", "-o", OUT, "--force", "--data", DATA, "--calibrate", "METHOD", "--no-numerics"]))
"""
TOOLS = {
    **{
        f"quantize_static {name}": READER + STATIC.replace("METHOD", name)
        for name in ("MinMax", "Entropy", "Percentile")
    },
    **{f"modelopt {name}": READER + OPTIMIZER.replace("METHOD", name) for name in ("max", "entropy")},
    **{f"fix {name}": OURS.replace("METHOD", name) for name in ("max", "percentile", "mse", "entropy", "auto")},
}
FIRST = "quantize_static MinMax"


@dataclass(frozen=True)
class Cost:
    """Processor seconds, peak resident bytes, and the last line of the errors if the process failed, else ""."""

    seconds: float
    peak: int
    failed: str


def cost(program: str, values: Mapping[str, str], folder: Path, python: str, limit: int) -> Cost:
    """Runs a program in its own process."""
    text = program
    for name, value in values.items():
        text = text.replace(name, repr(value))
    errors = folder / "errors.txt"
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with errors.open("w") as file:
        process = subprocess.Popen(
            [python, "-W", "ignore", "-c", text],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env={**os.environ, **one},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = errors.read_text(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
    failed = "" if process.returncode == 0 else lines[-1][:160]
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10, failed)


def write_inputs(folder: Path, paths: Sequence[Path], preprocess: Preprocess, count: int) -> None:
    """Writes `count` inputs as .npy; after the photographs come their mirror images, then both darker."""
    last = preprocess.layout == "nhwc"
    for index in range(count):
        image = read_picture(paths[index % len(paths)], preprocess)
        again = index // len(paths)
        if again % 2:
            image = np.flip(image, 2 if last else 3)
        np.save(folder / f"{index:04}.npy", np.ascontiguousarray(image * np.float32(0.9 ** (again // 2))))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("preprocess")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--gibibytes", type=int, default=16)
    parser.add_argument("--python", action="append", default=[], metavar="TOOL=PYTHON")
    parser.add_argument("--tool", nargs="+", choices=TOOLS, default=list(TOOLS))
    args = parser.parse_args()
    model, known = prepared(args.network, Preprocess.parse(args.preprocess))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir()
        write_inputs(folder / "data", pictures([args.photos]), known, args.samples)
        onnx.save(model, folder / "float.onnx")
        values = {"NAME": model.graph.input[0].name, "DATA": "data", "ROOT": str(Path(__file__).resolve().parents[1])}
        print("| tool | CPU s | peak MiB | wall s |", "|" + " --- |" * 4, sep="\n", flush=True)
        for tool in dict.fromkeys((FIRST, *args.tool)):
            out = "qdq.onnx" if tool == FIRST else "out.onnx"
            start = time.monotonic()
            python = interpreter(args.python, tool.split()[0])
            found = cost(TOOLS[tool], {**values, "OUT": out}, folder, python, args.gibibytes << 30)
            wall = time.monotonic() - start
            note = f" ({found.failed})" if found.failed else ""
            print(f"| {tool}{note} | {found.seconds:.0f} | {found.peak >> 20:,} | {wall:.0f} |", flush=True)


if __name__ == "__main__":
    main()

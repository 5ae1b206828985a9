"""`qdqgraph quantize` on float networks, next to files of another tool: one row per network.

    python benchmarks/quantize_table.py --judge JUDGE.py --calibration FOLDER --held-out FOLDER [--other FOLDER]
        [--keep FOLDER] FLOAT.onnx [...]

Each network NAME.onnx is quantized with the samples FOLDER/NAME.npz of --calibration, and compared with the float
network on those of --held-out. --other has files NAME.onnx that another tool quantized with the same samples. JUDGE.py
is as in placement_table.py. Prints a Markdown table: weighted layers in INT8 (by the forecast), bytes between
convolution blocks and of all kernels (by the judge), and the mean SQNR over the outputs.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import qdqgraph
from benchmarks.placement_table import judged
from qdqgraph.calibration.data.sources import samples_of
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.engines.share import Int8Share
from qdqgraph.rulekit import Graph
from qdqgraph.verify import comparison

COLUMNS = "network, , INT8 layers, INT8 convolutions, boundary bytes, of these float, bytes, SQNR dB, s"


@dataclass(frozen=True)
class Figures:
    """The cells of one quantized file."""

    layers: str
    convolutions: str
    boundary: str
    floating: str
    act: str
    sqnr: str

    @classmethod
    def of(cls, path: Path, reference: onnx.ModelProto, held_out: Path, judge: Path) -> Figures:
        """Measures a file.

        Args:
            path: the quantized file.
            reference: the float network.
            held_out: samples that no scale was measured on.
            judge: the program that builds the file.
        """
        model = onnx.load(path)
        share = Int8Share.of(forecast(Graph(model, path.parent), ""))
        agreements = comparison.compare(reference, model, samples_of(held_out, reference), path.parent)
        found = [a.sqnr for a in agreements.values() if math.isfinite(a.sqnr)]
        built = judged(judge, [path])[0]
        layers, sqnr = f"{share.int8} of {share.weighted}", f"{statistics.mean(found):.1f}" if found else "-"
        if not built["ok"]:
            return cls(layers, "no engine", "-", "-", "-", sqnr)
        stored, floating, act = (f"{built[name]:,}" for name in ("boundary_bytes", "float_boundary", "act"))
        return cls(layers, f"{built['conv_int8']} of {built['conv']}", stored, floating, act, sqnr)


def line(*cells: str) -> str:
    """A line of the table."""
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--other", type=Path, help="folder of files that another tool quantized")
    parser.add_argument("--keep", type=Path, help="folder for the quantized files")
    args = parser.parse_args()
    print(line(*COLUMNS.split(", ")))
    print("|" + " --- |" * len(COLUMNS.split(", ")))
    with tempfile.TemporaryDirectory() as temporary:
        for network in args.networks:
            out, data = (args.keep or Path(temporary)) / network.name, f"{network.stem}.npz"
            start, reference = time.perf_counter(), onnx.load(network)
            try:
                qdqgraph.quantize(network, data=args.calibration / data, output=out, force=True)
            except qdqgraph.QdqgraphError as error:
                print(line(network.stem, f"FAILED: {str(error).splitlines()[0]}"), flush=True)
                continue
            seconds = f"{time.perf_counter() - start:.1f}"
            files = {"qdqgraph": (out, seconds)}
            if args.other is not None and (args.other / network.name).exists():
                files["other"] = (args.other / network.name, "")
            for tool, (path, took) in files.items():
                figures = Figures.of(path, reference, args.held_out / data, args.judge)
                print(line(network.stem, tool, *vars(figures).values(), took), flush=True)


if __name__ == "__main__":
    main()

"""Time of calibration compared to pytorch-quantization, on the activations of a ResNet-18, and whether each amax is
bit-identical.

    python benchmarks/calibration.py [--batches 4] [--batch 8] [--method mse entropy]

Both sides search the same collected data; only the search for amax differs. The library's mse calls `.cuda()`, which is
bypassed here so that it runs on the CPU. Needs qdqgraph[torch,ort].
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qdqgraph.calibration.methods import find_method
from qdqgraph.torch import fold_norms, quantize, quantizers
from qdqgraph.torch.calibration.histogram import HistogramCollector
from qdqgraph.torch.quantizer.quantizer import HistogramCalibrator, silence_library_log
from samples import networks

SIZE = 224
METHODS = ("percentile", "mse", "entropy")


@dataclass(frozen=True)
class Timing:
    """One method: seconds of both sides, and how many amaxes are bit-identical."""

    method: str
    library: float
    ours: float
    same: int
    total: int

    def __str__(self) -> str:
        ratio = self.library / self.ours
        return f"| {self.method} | {self.library:.2f} | {self.ours:.2f} | {ratio:.0f} | {self.same} of {self.total} |"


def collected(batches: int, batch: int) -> list[tuple[HistogramCalibrator, HistogramCollector]]:
    """Histograms of the activations of a ResNet-18 on [batch, 3, 224, 224] images, as the library's and as ours."""
    model = networks.build("resnet18", SIZE)
    fold_norms(model, networks.images(1, SIZE, 0))
    quantize(model)
    inputs = [q for name, q in quantizers(model).items() if not q.library.is_weight(name)]
    pairs = [(HistogramCalibrator(8, None, False), HistogramCollector()) for _ in inputs]
    for quantizer, (theirs, ours) in zip(inputs, pairs, strict=True):
        quantizer.disable_quant()
        quantizer.register_forward_pre_hook(_collector(theirs, ours))
    with torch.no_grad(), silence_library_log():
        for seed in range(10, 10 + batches):
            model(networks.images(batch, SIZE, seed))
    return pairs


def _collector(
    theirs: HistogramCalibrator, ours: HistogramCollector
) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def collect(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        theirs.collect(inputs[0])
        ours.collect(inputs[0])

    return collect


def timing(method: str, pairs: list[tuple[HistogramCalibrator, HistogramCollector]]) -> Timing:
    """Searches every histogram with both implementations."""
    start = time.perf_counter()
    with patch.object(torch.Tensor, "cuda", lambda self: self):
        expected = [theirs.compute_amax(method, percentile=99.99) for theirs, _ in pairs]
    middle = time.perf_counter()
    found = [ours.compute_amax(find_method(method)) for _, ours in pairs]
    end = time.perf_counter()
    same = sum(
        f is not None and f.numpy().tobytes() == e.numpy().tobytes() for f, e in zip(found, expected, strict=True)
    )
    return Timing(method, middle - start, end - middle, same, len(pairs))


def main() -> int:
    """Prints the table; returns 1 if an amax differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=4, help="batches to collect (default: 4)")
    parser.add_argument("--batch", type=int, default=8, help="images in each (default: 8)")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    args = parser.parse_args()
    pairs = collected(args.batches, args.batch)
    bins = sum(len(found.counts) for _, ours in pairs if (found := ours.histogram) is not None)
    print(f"{len(pairs)} histograms of {bins} bins in total")
    print("| method | library, s | qdqgraph, s | speedup | bit-identical amax |", "| --- " * 5 + "|", sep="\n")
    failed = False
    for method in args.method:
        measured = timing(method, pairs)
        failed |= measured.same < measured.total
        print(measured, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

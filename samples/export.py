"""Writes a sample network as a quantized ONNX file: `python samples/export.py yolov5s -o yolov5s.onnx`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from samples import networks, quantize

SIZES = {"resnet18": 224, "yolov5s": 320}


def export(
    name: str,
    path: Path,
    calibrator: str = "histogram",
    method: str = "percentile",
    quant_add: str = "none",
    size: int | None = None,
) -> None:
    """Builds, quantizes, calibrates on 16 synthetic images and writes a sample of `networks.SAMPLES`, batch 1.

    Args:
        size: height and width in pixels, a multiple of 32; None means the entry of `SIZES`.
    """
    size = size or SIZES[name]
    network = networks.build(name, size)
    networks.fold_norms(network)
    quantize.swap(network, calibrator, quant_add)
    quantize.calibrate(network, (networks.images(4, size, seed) for seed in range(10, 14)), method)
    quantize.export(network, networks.images(1, size, 20), path, networks.SAMPLES[name].outputs)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a sample network as a quantized ONNX file.")
    parser.add_argument("name", choices=sorted(networks.SAMPLES))
    parser.add_argument("--calibrator", choices=quantize.CALIBRATORS, default="histogram")
    parser.add_argument(
        "--method",
        choices=quantize.METHODS,
        default="percentile",
        help="histogram to range; entropy takes several seconds per tensor (default: percentile)",
    )
    parser.add_argument(
        "--quant-add",
        choices=quantize.QUANT_ADDS,
        default="none",
        help="quantized inputs of residual Adds (default: none)",
    )
    parser.add_argument("--size", type=int, help="height and width, a multiple of 32 (default: 224 or 320)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    if args.size is not None and (args.size <= 0 or args.size % 32):
        parser.error(f"--size {args.size}: give a multiple of 32")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    export(args.name, args.output, args.calibrator, args.method, args.quant_add, args.size)
    print(f"{args.output}: {args.name}, {args.calibrator} calibrator, QuantAdd {args.quant_add}")


if __name__ == "__main__":
    main()

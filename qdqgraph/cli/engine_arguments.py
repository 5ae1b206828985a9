"""What the arguments of the commands about engines mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..engines.builders.builder import LIBRARIES
from ..targets.target import DEFAULT, NAMES

Verb = Callable[[Any, str, str, str], argparse.ArgumentParser]


def add(verb: argparse.ArgumentParser, make: Verb) -> None:
    """Adds what `qdqgraph engine` can do; `make` makes a command of (verbs, name, text, example)."""
    verbs = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    build = make(
        verbs, "build", "build an engine with a real TensorRT", "qdqgraph engine build model.onnx --with tensorrt-rtx"
    )
    build.add_argument("model", type=Path, metavar="MODEL")
    help = "tensorrt-rtx and openvino run on any CPU; tensorrt and trtexec need the GPU"
    build.add_argument("--with", dest="library", choices=LIBRARIES, required=True, help=help)
    help = "qdq: INT8 where the file has Q/DQ (default); fp16: no INT8; best: what TensorRT would choose"
    build.add_argument("--mode", choices=["qdq", "fp16", "best"], default="qdq", help=help)
    help = "an input with open dimensions (default: batch 1, pictures of 320 pixels)"
    build.add_argument("--shape", action="append", default=[], metavar="NAME:1x3x224x224", help=help)
    build.add_argument("--time-limit", type=float, default=600, metavar="SECONDS", help="end it after (default: 600)")
    help = "end it when it uses more (default: 8192)"
    build.add_argument("--memory-limit", type=int, default=8192, metavar="MIB", help=help)
    build.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the log and all exports here")
    _saving(build)
    read = make(
        verbs, "read", "show an engine that trtexec exported", "qdqgraph engine read layers.json --profile profile.json"
    )
    read.add_argument("layers", type=Path, metavar="LAYERS.json", help="of trtexec --exportLayerInfo, or saved with -o")
    read.add_argument("--profile", type=Path, metavar="FILE", help="of trtexec --exportProfile: times of layers")
    read.add_argument("--times", type=Path, metavar="FILE", help="of trtexec --exportTimes: times of whole runs")
    _saving(read)
    forecast = make(
        verbs,
        "forecast",
        "which kernels TensorRT will form, by its documented rules",
        "qdqgraph engine forecast model.onnx --target trt-10",
    )
    forecast.add_argument("model", type=Path, metavar="MODEL")
    _target(forecast)
    _saving(forecast)
    diff = make(
        verbs, "diff", "what differs between two engines; exit 1 where B is worse", "qdqgraph engine diff a.json b.json"
    )
    diff.add_argument("a", type=Path, metavar="A", help="layer info, a saved engine, or a model to forecast")
    diff.add_argument("b", type=Path, metavar="B")
    for side in "ab":
        diff.add_argument(f"--profile-{side}", type=Path, metavar="FILE", help=f"times of the layers of {side.upper()}")
    _target(diff)
    diff.add_argument("--json", action="store_true", help="print the differences as JSON and nothing else")

    draw = make(verbs, "draw", "draw one engine, or two side by side", "qdqgraph engine draw a.json b.json -o both.svg")
    draw.add_argument("a", type=Path, metavar="A", help="layer info, a saved engine, or a model to forecast")
    draw.add_argument("b", type=Path, metavar="B", nargs="?")
    for side in "ab":
        draw.add_argument(f"--profile-{side}", type=Path, metavar="FILE", help=f"times of the layers of {side.upper()}")
    draw.add_argument("--by", choices=["bytes", "time"], default="bytes", help="what the bars show (default: bytes)")
    picture(draw)
    _target(draw)


def picture(verb: argparse.ArgumentParser) -> None:
    """The options of a command that writes a picture."""
    verb.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="where to write: .svg or .dot")
    verb.add_argument("--force", action="store_true", help="overwrite existing files")


def _target(verb: argparse.ArgumentParser) -> None:
    help = f"the TensorRT to forecast for: {', '.join(NAMES)} (default: {DEFAULT})"
    verb.add_argument("--target", default=DEFAULT, metavar="TARGET", help=help)


def _saving(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-o", "--output", type=Path, metavar="FILE", help="save the engine, for diff and draw")
    verb.add_argument("--force", action="store_true", help="overwrite existing files")
    verb.add_argument("--json", action="store_true", help="print the engine as JSON and nothing else")

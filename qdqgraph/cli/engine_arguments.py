"""The arguments of the engine commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..engines.builders import LIBRARIES, MODES
from ..engines.timing.device import DEFAULT as DEVICE
from ..engines.timing.device import NAMES as DEVICES
from ..targets.target import DEFAULT, NAMES
from .numbers import count, positive
from .parsers import add_command
from .report_arguments import add_report


def add(verb: argparse.ArgumentParser) -> None:
    """Adds the subcommands of `qdqgraph engine`."""
    verbs = verb.add_subparsers(dest="what", required=True, metavar="WHAT")
    build = add_command(
        verbs, "build", "build an engine with a real TensorRT", "qdqgraph engine build model.onnx --with tensorrt-rtx"
    )
    build.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    help = "tensorrt-rtx and openvino run on any CPU; tensorrt and trtexec need a GPU"
    build.add_argument("--with", dest="library", choices=LIBRARIES, required=True, help=help)
    help = "qdq: INT8 where the file has Q/DQ (default); fp16: no INT8; best: TensorRT's own choice"
    build.add_argument("--mode", choices=MODES, default="qdq", help=help)
    help = "shape of a dynamic input (default: batch 1, images of 320 x 320 pixels)"
    build.add_argument("--shape", action="append", default=[], metavar="NAME:1x3x224x224", help=help)
    help = "stop the build after this time (default: 600)"
    build.add_argument("--time-limit", type=positive, default=600, metavar="SECONDS", help=help)
    help = "stop the build if it uses more memory (default: 8192)"
    build.add_argument("--memory-limit", type=count, default=8192, metavar="MIB", help=help)
    build.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the log and all exports here")
    _saving(build)
    read = add_command(
        verbs, "read", "show an engine that trtexec exported", "qdqgraph engine read layers.json --profile profile.json"
    )
    help = "layer info from trtexec --exportLayerInfo, or an engine saved with -o"
    read.add_argument("layers", type=Path, metavar="LAYERS.json", help=help)
    read.add_argument("--profile", type=Path, metavar="FILE", help="layer times from trtexec --exportProfile")
    read.add_argument("--times", type=Path, metavar="FILE", help="times of whole runs from trtexec --exportTimes")
    _saving(read)
    forecast = add_command(
        verbs,
        "forecast",
        "list the kernels TensorRT will form, by its documented rules",
        "qdqgraph engine forecast model.onnx --target trt-10",
    )
    forecast.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file")
    _target(forecast)
    _saving(forecast)
    time = add_command(
        verbs,
        "time",
        "rank engines of one network by estimated time on a device, fastest first",
        "qdqgraph engine time exported.onnx fixed.onnx --device orin --fp16",
    )
    help = "a model to forecast, layer info, or a saved engine"
    time.add_argument("engines", type=Path, nargs="+", metavar="ENGINE", help=help)
    add_device(time)
    help = "FP32 kernels run in FP16, as in an engine built with --fp16"
    time.add_argument("--fp16", action="store_true", help=help)
    _target(time)
    time.add_argument("--json", action="store_true", help="print the estimates as JSON and nothing else")
    diff = add_command(verbs, "diff", "compare two engines; exit 1 if B is worse", "qdqgraph engine diff a.json b.json")
    diff.add_argument("a", type=Path, metavar="A", help="layer info, a saved engine, or a model to forecast")
    diff.add_argument("b", type=Path, metavar="B", help="the engine to compare it with")
    for side in "ab":
        diff.add_argument(f"--profile-{side}", type=Path, metavar="FILE", help=f"times of the layers of {side.upper()}")
    _target(diff)
    diff.add_argument("-v", "--verbose", action="store_true", help="list every difference")
    diff.add_argument("--json", action="store_true", help="print the differences as JSON and nothing else")
    add_report(diff)

    draw = add_command(
        verbs, "draw", "draw one engine, or two side by side", "qdqgraph engine draw a.json b.json -o both.svg"
    )
    draw.add_argument("a", type=Path, metavar="A", help="layer info, a saved engine, or a model to forecast")
    draw.add_argument("b", type=Path, metavar="B", nargs="?", help="a second engine, drawn beside it")
    for side in "ab":
        draw.add_argument(f"--profile-{side}", type=Path, metavar="FILE", help=f"times of the layers of {side.upper()}")
    draw.add_argument("--by", choices=["bytes", "time"], default="bytes", help="what the bars show (default: bytes)")
    picture(draw)
    _target(draw)


def add_device(verb: argparse._ActionsContainer) -> None:
    """Adds the options of a command that estimates times."""
    help = f"estimated times are of this device: {', '.join(DEVICES)} (default: {DEVICE})"
    verb.add_argument("--device", default=DEVICE, metavar="NAME", help=help)
    help = "layer info and profile of an engine on this device: what it reaches of the datasheet"
    verb.add_argument("--measured", type=Path, nargs=2, metavar=("LAYERS.json", "PROFILE.json"), help=help)


def picture(verb: argparse.ArgumentParser) -> None:
    """Adds the options of a command that writes a drawing."""
    verb.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="output file, .svg or .dot")
    verb.add_argument("--force", action="store_true", help="overwrite existing files")


def _target(verb: argparse.ArgumentParser) -> None:
    help = f"TensorRT generation of the forecast: {', '.join(NAMES)} (default: {DEFAULT})"
    verb.add_argument("--target", default=DEFAULT, metavar="TARGET", help=help)


def _saving(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-o", "--output", type=Path, metavar="FILE", help="save the engine for diff and draw")
    verb.add_argument("--force", action="store_true", help="overwrite existing files")
    verb.add_argument("-v", "--verbose", action="store_true", help="list every kernel in order, and the reasons")
    verb.add_argument("--json", action="store_true", help="print the engine as JSON and nothing else")

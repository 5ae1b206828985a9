"""The arguments of the commands that measure accuracy, error and sensitivity, and of `strip` that read their files."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from ..verify.sensitivity import BYS
from .data_arguments import add_data, add_memory
from .numbers import count, finite
from .report_arguments import add_report


def add_error(verb: ArgumentParser) -> None:
    """Adds the arguments of `error`."""
    verb.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file with Q/DQ")
    add_data(verb, "samples of the inputs, which the errors are measured on (required)")
    verb.add_argument(
        "--as",
        dest="engine",
        metavar="TARGET",
        help="instead: where the numbers of the engine that this TensorRT generation forms (trt-10, …) differ from "
        "ONNX Runtime's, computed on the CPU; derived from documents, not verified on a GPU",
    )
    _measured(verb)
    add_memory(verb)
    add_report(verb)


def add_sensitivity(verb: ArgumentParser) -> None:
    """Adds the arguments of `sensitivity`."""
    verb.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file with Q/DQ")
    add_data(verb, "samples of the inputs, which the SQNR of the outputs is measured on; may be left out with --eval")
    verb.add_argument(
        "--by",
        choices=BYS,
        default="group",
        help="what is switched as a whole: sites that share a scale with the layers that read them (default), a "
        "weighted layer with what fuses with it, or a layer",
    )
    verb.add_argument(
        "--mode",
        choices=["off", "on", "both"],
        default="off",
        help="off (default): one unit in float, the rest quantized: what that gains; on: only one unit quantized: what "
        "it costs; both takes twice as long",
    )
    _measured(verb)
    verb.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="JSON, written after each unit; the same command continues it. OUT.csv: also as CSV, beside OUT.json",
    )
    verb.add_argument("--force", action="store_true", help="start over and overwrite the output")


def add_worst(verb: ArgumentParser) -> None:
    """Adds the options of `strip` that take layers from a ranking."""
    help = "a file of `sensitivity`, or of `error --json`: its worst units or layers"
    verb.add_argument("--from", dest="ranking", type=Path, metavar="FILE", help=help)
    verb.add_argument("--top", type=count, metavar="K", help="with --from: at most the K worst")
    help = "with --from: only units that gain at least this in float, in dB, or in the score of --eval"
    verb.add_argument("--min-gain", type=finite, metavar="GAIN", help=help)


def _measured(verb: ArgumentParser) -> None:
    verb.add_argument("--reference", type=Path, metavar="FLOAT.onnx", help="the float network, for the exact weights")
    verb.add_argument(
        "--eval",
        metavar="MODULE:FUNCTION",
        help="scores a network: gets it as a function from arrays to arrays, by name; higher is better",
    )
    verb.add_argument("--provider", choices=["cpu", "cuda"], default="cpu", help="device of the measurement")
    verb.add_argument("--format", choices=["text", "json", "csv"], default="text", help="what is printed")
    verb.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")

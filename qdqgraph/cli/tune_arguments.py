"""The arguments of the command tune."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..engines.builders import LIBRARIES
from .data_arguments import add_data, add_memory
from .engine_arguments import add_device
from .numbers import count, finite, not_negative, positive, whole
from .plan_arguments import add_plan
from .report_arguments import add_report


def storage(args: Namespace) -> str:
    """The given URL, or that of a file beside the output, or beside the model."""
    if args.storage is not None:
        return str(args.storage)
    near: Path = args.model if args.output is None else args.output
    return f"sqlite:///{(near.parent / f'{near.stem}.tune.db').absolute()}"


def add(verb: ArgumentParser) -> None:
    """Adds the arguments of `tune`."""
    verb.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file with Q/DQ")
    add_data(verb, "samples of the inputs (required); every second one is held back and judges the result")
    verb.add_argument("--reference", type=Path, metavar="FLOAT.onnx", help="the float network, for the exact weights")
    verb.add_argument(
        "--eval",
        metavar="MODULE:FUNCTION",
        help="scores a network: gets it as a function from arrays to arrays, by name; higher is better",
    )
    which = verb.add_mutually_exclusive_group()
    help = "the least SQNR of the outputs against the float network: the fastest such model"
    which.add_argument("--budget-db", type=finite, metavar="DB", help=help)
    help = "with --eval: the most that the score may be below float: the fastest such model"
    which.add_argument("--max-drop", type=not_negative, metavar="SCORE", help=help)
    help = "the least speed in times that of the float network: the most accurate such model"
    which.add_argument("--min-speed", type=positive, metavar="TIMES", help=help)
    help = "the most that it is slower than the repaired model, in percent: the most accurate such model"
    which.add_argument("--max-slower", type=not_negative, metavar="PERCENT", help=help)
    add_device(verb)
    help = "what is not quantized runs in FP32 (default: FP16, as in an engine built with --fp16)"
    verb.add_argument("--fp32", action="store_true", help=help)
    help = "build the best candidates; openvino, tensorrt and trtexec measure times, which then choose"
    verb.add_argument("--with", dest="library", choices=LIBRARIES, help=help)
    verb.add_argument("--builds", type=count, default=10, metavar="N", help="at most so many engines (default: 10)")
    help = "changes of the best candidates that are tried (default: 40)"
    verb.add_argument("--trials", type=whole, default=40, metavar="N", help=help)
    verb.add_argument("--seed", type=whole, default=0, help="of these changes; the same seed gives the same result")
    help = "URL of Optuna's storage; the same command goes on, processes with the same URL share the work (default: "
    verb.add_argument("--storage", metavar="URL", help=help + "sqlite file next to the output, or beside the model)")
    verb.add_argument("--workers", type=count, default=1, metavar="N", help="processes on this machine (default: 1)")
    verb.add_argument("--status", action="store_true", help="show how far the search in the storage is, and stop")
    help = "the chosen model; without it the search only prints, and shares the work of others"
    verb.add_argument("-o", "--output", type=Path, metavar="OUT", help=help)
    add_plan(verb)
    verb.add_argument("--picture", type=Path, metavar="FILE.svg", help="write a picture of the front here")
    verb.add_argument("--force", action="store_true", help="overwrite existing files")
    add_report(verb, force=False)
    add_memory(verb)
    verb.add_argument("--provider", choices=["cpu", "cuda"], default="cpu", help="device of the measurement")
    help = "print the outcome, or with --status how far the search is, as JSON and nothing else"
    verb.add_argument("--json", action="store_true", help=help)

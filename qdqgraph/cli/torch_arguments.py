"""The arguments of `qdqgraph torch`.

The network and its data are the user's own functions, named as `package.module:function`:

    model()          returns the float network, in eval mode or not
    data()           yields batches for calibration and training; the first entry of each is the input
    evaluate(model)  returns the score of a network; higher is better
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

from ..calibration.methods import methods
from ..errors import TorchError

Verb = Callable[[str, str, str], ArgumentParser]


def add(verb: Verb) -> None:
    """Adds the commands of `qdqgraph torch`; `verb` creates a command from (name, text, example)."""
    known = methods()
    common = "--model nets:build --data nets:batches --eval nets:accuracy"
    quantize = verb(
        "quantize", "link, calibrate, score and export a network", f"qdqgraph torch quantize {common} -o net.onnx"
    )
    analyse = verb(
        "sensitivity",
        "measure what each layer's quantization costs",
        f"qdqgraph torch sensitivity {common} -o layers.json",
    )
    tune = verb(
        "finetune",
        "quantization-aware training with the float network as teacher",
        f"qdqgraph torch finetune {common} -o net.onnx --save-qat qat.pt",
    )
    for parser in (quantize, analyse, tune):
        parser.add_argument("--model", required=True, metavar="MODULE:FUNCTION", help="returns the float network")
        parser.add_argument("--data", required=True, metavar="MODULE:FUNCTION", help="yields batches, input first")
        help = "scores a network; higher is better"
        parser.add_argument("--eval", metavar="MODULE:FUNCTION", help=help, required=parser is analyse)
        parser.add_argument("--config", type=Path, metavar="FILE", help="TOML: which modules are quantized, and how")
        parser.add_argument("--batches", type=_count, metavar="N", help="batches to calibrate with (default: all)")
        help = "; ".join(f"{name}: {method.summary.replace('%', '%%')}" for name, method in known.items())
        help = f"how calibration chooses amax (default: the configuration's); {help}"
        parser.add_argument("--method", choices=tuple(known), default="", help=help)
        parser.add_argument("--percentile", type=_percent, help="for method percentile (default: 99.99)")
        parser.add_argument("--no-link", action="store_true", help="do not tie, add or disable quantizers")
        parser.add_argument("--rules", type=Path, action="append", default=[], metavar="PATH", help="additional rules")
        parser.add_argument("--load", type=Path, metavar="FILE", help="start from a saved state, without calibration")
        parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
        what = "the ranking, JSON; CSV and SVG files are written too" if parser is analyse else "the ONNX file"
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=what)
        parser.add_argument("--force", action="store_true", help="overwrite existing files")
    for parser in (quantize, tune):
        parser.add_argument("--opset", type=int, help="opset of the ONNX file (default: 17, with --dynamo 18)")
        parser.add_argument("--dynamo", action="store_true", help="export with torch.export instead of tracing")
        parser.add_argument("--dynamic-batch", action="store_true", help="export a dynamic batch dimension")
        help = "a ranking of `sensitivity`: its most expensive units run in float, and the rest is linked again"
        parser.add_argument("--off", type=Path, metavar="RANKING.json", help=help)
        many = parser.add_mutually_exclusive_group()
        many.add_argument("--top", type=_count, metavar="K", help="with --off: the number of units")
        help = "with --off: as many units as needed, so that the remaining costs add up to at most this"
        many.add_argument("--budget", type=_cost, metavar="COST", help=help)
        parser.add_argument("--save-ptq", type=Path, metavar="FILE", help="save the calibrated state")
    help = "disable one unit at a time, or enable only one (default: disable)"
    analyse.add_argument("--direction", choices=["disable", "enable"], default="disable", help=help)
    help = "treat this module as one unit; may be repeated"
    analyse.add_argument("--block", action="append", metavar="PATH", help=help)
    tune.add_argument("--save-qat", type=Path, metavar="FILE", help="save the best trained state")
    tune.add_argument("--epochs", type=_count, default=5, help="passes over the data (default: 5)")
    tune.add_argument("--steps", type=_count, help="batches per epoch (default: all)")
    tune.add_argument("--rate", type=_rate, default=1e-4, help="learning rate (default: 1e-4)")
    tune.add_argument(
        "--schedule", choices=["cosine", "step"], default="cosine", help="of the learning rate (default: cosine)"
    )
    help = "modules whose outputs are compared with the teacher's"
    tune.add_argument("--supervise", action="append", default=[], metavar="GLOB", help=help)
    tune.add_argument("--stride", type=_count, default=1, help="compare only every N-th of them (default: 1)")


def check_off(args: Namespace) -> None:
    """Refuses a ranking without a number of units or a budget, and the reverse.

    Raises:
        TorchError: `--off` comes without `--top` and `--budget`, or one of these without `--off`.
    """
    if (args.off is not None) != (args.top is not None or args.budget is not None):
        raise TorchError("give --off RANKING.json together with --top K or --budget COST")


def outputs(args: Namespace) -> list[Path]:
    """Every file that a command writes; needs torch."""
    from ..torch.pipeline.commands import ranking_files

    if args.what == "sensitivity":
        return list(ranking_files(args.output))
    found = [args.output, args.save_ptq, getattr(args, "save_qat", None)]
    return [path for path in found if path is not None]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not an integer of 1 or more")
    return int(text)


def _real(text: str, what: str, fits: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not fits(number):
        raise ArgumentTypeError(f"{text!r} is not a {what}")
    return number


def _rate(text: str) -> float:
    return _real(text, "number above 0", lambda x: x > 0)


def _percent(text: str) -> float:
    return _real(text, "number above 0, at most 100", lambda x: 0 < x <= 100)


def _cost(text: str) -> float:
    return _real(text, "number of 0 or more", lambda x: x >= 0)

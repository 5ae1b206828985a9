"""The arguments of `qdqgraph torch`.

The network and its data are the user's own functions, named as `package.module:function`:

    model()          returns the float network, in eval mode or not
    data()           yields batches for calibration and training; the first entry of each is the input
    evaluate(model)  returns the score of a network; higher is better
    loss(model, batch), or loss(output, batch), returns the task's loss, a scalar tensor
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..calibration.methods import methods
from ..errors import TorchError
from . import training_arguments
from .numbers import count, not_negative, percent
from .parsers import add_command

BACKENDS = ("pytorch-quantization", "modelopt")
"""The libraries of quantizers; those of `qdqgraph.torch`, which is imported only when a command runs."""


def add(side: ArgumentParser) -> None:
    """Adds the commands of `qdqgraph torch`."""
    verbs = side.add_subparsers(dest="what", required=True, metavar="WHAT")
    known = methods()
    common = "--model nets:build --data nets:batches --eval nets:accuracy"
    quantize = add_command(
        verbs,
        "quantize",
        "link, calibrate, score and export a network",
        f"qdqgraph torch quantize {common} -o net.onnx",
    )
    analyse = add_command(
        verbs,
        "sensitivity",
        "measure what each layer's quantization costs",
        f"qdqgraph torch sensitivity {common} -o layers.json",
    )
    tune = add_command(
        verbs,
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
        help = f"the library of the quantizers; modelopt is NVIDIA Model Optimizer (default: {BACKENDS[0]})"
        parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0], help=help)
        parser.add_argument("--batches", type=count, metavar="N", help="batches to calibrate with (default: all)")
        help = "; ".join(f"{name}: {method.summary.replace('%', '%%')}" for name, method in known.items())
        help = f"how calibration chooses amax (default: the configuration's); {help}"
        parser.add_argument("--method", choices=tuple(known), default="", help=help)
        parser.add_argument("--percentile", type=percent, help="for method percentile (default: 99.99)")
        parser.add_argument("--no-link", action="store_true", help="do not tie, add or disable quantizers")
        parser.add_argument("--rules", type=Path, action="append", default=[], metavar="PATH", help="additional rules")
        parser.add_argument("--load", type=Path, metavar="FILE", help="start from a saved state, without calibration")
        help = "load what fits of a state that differs from the network, and list what does not"
        parser.add_argument("--force-load", action="store_true", help=help)
        parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
        what = "the ranking, JSON; CSV and SVG files are written too" if parser is analyse else "the ONNX file"
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=what)
        parser.add_argument("--force", action="store_true", help="overwrite existing files")
        parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to stderr")
    for parser in (quantize, tune):
        parser.add_argument("--opset", type=count, help="opset of the ONNX file (default: 17, with --dynamo 18)")
        parser.add_argument("--dynamo", action="store_true", help="export with torch.export instead of tracing")
        parser.add_argument("--dynamic-batch", action="store_true", help="export a dynamic batch dimension")
        help = "write quantizers that received only zeros, with a scale of 1, instead of refusing them"
        parser.add_argument("--allow-zero", action="store_true", help=help)
        some = parser.add_mutually_exclusive_group()
        help = "batches on which ONNX Runtime runs the file, to compare it with the network (default: 2)"
        some.add_argument("--compare", type=count, metavar="N", default=2, help=help)
        help = "do not compare the file with the network"
        some.add_argument("--no-compare", dest="compare", action="store_const", const=0, help=help)
        help = "a ranking of `sensitivity`: its most expensive units run in float, and the rest is linked again"
        parser.add_argument("--off", type=Path, metavar="RANKING.json", help=help)
        many = parser.add_mutually_exclusive_group()
        many.add_argument("--top", type=count, metavar="K", help="with --off: the number of units")
        help = "with --off: as many units as needed, so that the remaining costs add up to at most this"
        many.add_argument("--budget", type=not_negative, metavar="COST", help=help)
        parser.add_argument("--save-ptq", type=Path, metavar="FILE", help="save the calibrated state")
    help = "disable one unit at a time, or enable only one (default: disable)"
    analyse.add_argument("--direction", choices=["disable", "enable"], default="disable", help=help)
    help = "treat this module as one unit, or each module or call that a glob matches; may be repeated"
    analyse.add_argument("--block", action="append", metavar="GLOB", help=help)
    training_arguments.add(tune)


def check_off(args: Namespace) -> None:
    """Refuses a ranking without a number of units or a budget, and the reverse.

    Raises:
        TorchError: `--off` comes without `--top` and `--budget`, or one of these without `--off`.
    """
    if (args.off is not None) != (args.top is not None or args.budget is not None):
        raise TorchError("give --off RANKING.json together with --top K or --budget COST")

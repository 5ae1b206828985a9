"""What the arguments of `qdqgraph torch` mean.

The network and its data are the user's own functions, named as `package.module:function`:

    model()          makes the float network, in eval mode or not
    data()           yields batches for calibration and training; the first entry of each is the input
    evaluate(model)  scores a network, more is better
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

METHODS = ("max", "percentile", "entropy", "mse")
Verb = Callable[[str, str, str], ArgumentParser]


def add(verb: Verb) -> None:
    """Adds what `qdqgraph torch` can do; `verb` makes a command of (name, text, example)."""
    common = "--model nets:build --data nets:batches --eval nets:accuracy"
    quantize = verb(
        "quantize", "link, calibrate, score and export a network", f"qdqgraph torch quantize {common} -o net.onnx"
    )
    analyse = verb(
        "sensitivity", "what each layer's quantization costs", f"qdqgraph torch sensitivity {common} -o layers.json"
    )
    tune = verb(
        "finetune",
        "quantization-aware training with the float network as teacher",
        f"qdqgraph torch finetune {common} -o net.onnx --save-qat qat.pt",
    )
    for parser in (quantize, analyse, tune):
        parser.add_argument("--model", required=True, metavar="MODULE:FUNCTION", help="makes the float network")
        parser.add_argument("--data", required=True, metavar="MODULE:FUNCTION", help="yields batches, input first")
        help = "scores a network, more is better"
        parser.add_argument("--eval", metavar="MODULE:FUNCTION", help=help, required=parser is analyse)
        parser.add_argument("--config", type=Path, metavar="FILE", help="which modules are quantized and how, TOML")
        parser.add_argument("--batches", type=int, metavar="N", help="batches to calibrate with (default: all)")
        parser.add_argument("--method", choices=METHODS, default="", help="calibration (default: the configuration's)")
        parser.add_argument("--percentile", type=float, help="for method percentile (default: 99.99)")
        parser.add_argument("--no-link", action="store_true", help="leave the quantizers as they are, untied")
        parser.add_argument("--rules", type=Path, action="append", default=[], metavar="PATH", help="more rules")
        parser.add_argument("--load", type=Path, metavar="FILE", help="begin with a saved state, and do not calibrate")
        parser.add_argument("--device", default="cpu", help="where it runs (default: cpu)")
        what = "the ranking, JSON; CSV and SVG go beside it" if parser is analyse else "the ONNX file"
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=what)
        parser.add_argument("--force", action="store_true", help="overwrite existing files")
    for parser in (quantize, tune):
        parser.add_argument("--opset", type=int, help="of the ONNX file (default: 17, with --dynamo 18)")
        parser.add_argument("--dynamo", action="store_true", help="export with torch.export instead of tracing")
        parser.add_argument("--dynamic-batch", action="store_true", help="leave the batch size open")
        help = "a ranking of `sensitivity`: its most expensive units run in float, and the rest is linked anew"
        parser.add_argument("--off", type=Path, metavar="RANKING.json", help=help)
        many = parser.add_mutually_exclusive_group()
        many.add_argument("--top", type=int, metavar="K", help="with --off: this many units")
        help = "with --off: as many as it takes until the costs that remain add up to at most this"
        many.add_argument("--budget", type=float, metavar="COST", help=help)
        parser.add_argument("--save-ptq", type=Path, metavar="FILE", help="save the calibrated state")
    analyse.add_argument("--direction", choices=["disable", "enable"], default="disable", help="switch off, or on, one")
    analyse.add_argument("--block", action="append", metavar="PATH", help="take a module for one unit; may be repeated")
    tune.add_argument("--save-qat", type=Path, metavar="FILE", help="save the best trained state")
    tune.add_argument("--epochs", type=int, default=5, help="passes over the data (default: 5)")
    tune.add_argument("--steps", type=int, help="batches an epoch (default: all)")
    tune.add_argument("--rate", type=float, default=1e-4, help="learning rate (default: 1e-4)")
    tune.add_argument("--schedule", choices=["cosine", "step"], default="cosine", help="of the rate (default: cosine)")
    help = "modules whose results are compared with the teacher's"
    tune.add_argument("--supervise", action="append", default=[], metavar="GLOB", help=help)
    tune.add_argument("--stride", type=int, default=1, help="compare every N-th of them only (default: 1)")

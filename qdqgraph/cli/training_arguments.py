"""The arguments of `qdqgraph torch finetune` that say how the network is trained."""

from __future__ import annotations

import ast
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .numbers import count, fraction, not_negative, positive, whole

if TYPE_CHECKING:
    from ..torch import Training


def add(tune: ArgumentParser) -> None:
    """Adds them."""
    tune.add_argument("--save-qat", type=Path, metavar="FILE", help="save the best trained state")
    help = "the task's loss: of (model, batch) if its first parameter is named model, else of (output, batch)"
    tune.add_argument("--loss", metavar="MODULE:FUNCTION", help=help)
    tune.add_argument("--epochs", type=count, default=5, help="passes over the data (default: 5)")
    tune.add_argument("--steps", type=count, help="batches per epoch (default: all)")
    tune.add_argument("--rate", type=positive, default=1e-4, help="learning rate (default: 1e-4)")
    tune.add_argument("--decay", type=not_negative, default=0.0, help="weight decay (default: 0)")
    help = "the name of a class of torch.optim (default: AdamW)"
    tune.add_argument("--optimizer", default="AdamW", metavar="NAME", help=help)
    help = "an argument of the optimizer, such as momentum=0.9; may be repeated"
    tune.add_argument("--optimizer-arg", action="append", default=[], type=_pair, metavar="NAME=VALUE", help=help)
    help = "of the learning rate: cosine, step, or a class of torch.optim.lr_scheduler (default: cosine)"
    tune.add_argument("--schedule", default="cosine", metavar="NAME", help=help)
    help = "an argument of that class, such as gamma=0.9; may be repeated"
    tune.add_argument("--schedule-arg", action="append", default=[], type=_pair, metavar="NAME=VALUE", help=help)
    help = "weight of the distance to the teacher's features; 0: do not compare them (default: 1)"
    tune.add_argument("--distillation", type=not_negative, default=1.0, metavar="WEIGHT", help=help)
    help = "weight of the distance to the teacher's outputs; 0: do not compare them (default: 1)"
    tune.add_argument("--output-weight", type=not_negative, default=1.0, metavar="WEIGHT", help=help)
    help = "weight of --loss (default: 1)"
    tune.add_argument("--task-weight", type=not_negative, default=1.0, metavar="WEIGHT", help=help)
    help = "modules whose outputs are compared with the teacher's"
    tune.add_argument("--supervise", action="append", default=[], metavar="GLOB", help=help)
    tune.add_argument("--stride", type=count, default=1, help="compare only every N-th of them (default: 1)")
    help = "the mode of both networks in training (default: train with --loss, else eval)"
    tune.add_argument("--mode", choices=["train", "eval"], help=help)
    help = "update the running statistics of normalizations"
    tune.add_argument("--train-norms", action="store_true", help=help)
    tune.add_argument("--learn-amax", action="store_true", help="train amax as well (LSQ)")
    tune.add_argument("--amax-rate", type=positive, help="learning rate of amax (default: --rate)")
    help = "largest norm of the gradient; 0: any (default: 10)"
    tune.add_argument("--clip", type=not_negative, default=10.0, help=help)
    help = "keep the moving average of weights with this decay per step, such as 0.999"
    tune.add_argument("--average", type=fraction, metavar="DECAY", help=help)
    help = "stop after this many epochs in a row that are not better"
    tune.add_argument("--patience", type=count, metavar="EPOCHS", help=help)
    help = "autocast to this type (default: float32)"
    tune.add_argument("--precision", choices=["float32", "bfloat16", "float16"], default="float32", help=help)
    tune.add_argument("--seed", type=whole, help="of the random generators")
    help = "written after each epoch; the same command goes on from it (default: OUT with the ending .training.pt)"
    tune.add_argument("--resume", type=Path, metavar="FILE", help=help)
    tune.add_argument("--restart", action="store_true", help="begin again even if an interrupted run could go on")


def training(args: Namespace) -> Training:
    """The settings that these arguments give."""
    from ..torch import Training

    return Training(
        epochs=args.epochs,
        rate=args.rate,
        schedule=args.schedule,
        steps=args.steps,
        distillation=args.distillation,
        output=args.output_weight,
        decay=args.decay,
        clip=args.clip or None,
        freeze_norms=not args.train_norms,
        task=args.task_weight,
        mode=args.mode,
        optimizer=args.optimizer,
        optimizer_args=dict(args.optimizer_arg),
        schedule_args=dict(args.schedule_arg),
        learn_amax=args.learn_amax,
        amax_rate=args.amax_rate,
        average=args.average,
        patience=args.patience,
        precision=args.precision,
        seed=args.seed,
    )


def _pair(text: str) -> tuple[str, Any]:
    """`momentum=0.9` as name and value; a value that is not a literal of Python is text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value

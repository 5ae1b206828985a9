"""`qdqgraph torch WHAT`: the PyTorch side on the command line. torch is imported when a command runs, never before."""

from __future__ import annotations

import copy
import importlib
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .commands import terminal
from .errors import TorchError
from .files import write_text
from .report import text
from .user_code import called, failed, named

if TYPE_CHECKING:
    from .torch import Config


def torch(args: Namespace) -> int:
    """`qdqgraph torch WHAT`.

    Raises:
        TorchError: torch or pytorch-quantization is missing, or what the arguments name cannot be used.
    """
    try:
        importlib.import_module(".torch", __package__)
    except ImportError as error:
        needed = "torch and pytorch-quantization: pip install 'qdqgraph[torch]'"
        raise TorchError(f"the PyTorch side needs {needed} ({error})") from error
    if args.what != "sensitivity":
        _possible(args)
    wanted = (args.output, getattr(args, "save_ptq", None), getattr(args, "save_qat", None))
    resumable = args.what == "sensitivity"
    for path in wanted:
        if path is not None and path.exists() and not args.force and not resumable:
            raise TorchError(f"{path} exists; give --force to overwrite it")
        if path is not None and not path.parent.is_dir():
            raise TorchError(f"{path}: there is no folder {path.parent}")
    return int({"quantize": _quantize, "sensitivity": _sensitivity, "finetune": _finetune}[args.what](args))


def _possible(args: Namespace) -> None:
    """Refuses what cannot be exported or switched off before anything runs for hours.

    Raises:
        TorchError: the exporter does not write the opset, or the arguments about a ranking are not whole.
    """
    from .torch.export import opset_of

    opset_of(args.opset, args.dynamo)
    if (args.off is None) != (args.top is None and args.budget is None):
        raise TorchError("--off RANKING.json goes with --top K or --budget COST")


class Run:
    """The network and its data, from the user's functions."""

    def __init__(self, args: Namespace) -> None:
        self.args = args
        sys.path.insert(0, str(Path.cwd()))
        self.make, self.data = named(args.model, "--model"), named(args.data, "--data")
        self.judge = None if args.eval is None else named(args.eval, "--eval")
        self.network: Any = called(self.make, args.model)
        if not hasattr(self.network, "named_modules"):
            raise TorchError(f"--model {args.model} gives a {type(self.network).__name__}, which is no torch module")
        self.network.to(args.device)

    def batches(self) -> Any:
        """The loader, made anew."""
        return called(self.data, self.args.data)

    def score(self, model: Any) -> float:
        """The user's score of a network.

        Raises:
            TorchError: it is no number.
        """
        assert self.judge is not None
        score = called(self.judge, self.args.eval, model)
        try:
            return float(score)
        except (TypeError, ValueError) as error:
            raise TorchError(f"--eval {self.args.eval} gives {score!r}, which is no number") from error

    def say_score(self, what: str, model: Any) -> None:
        """Prints the score, where there is a function for it."""
        if self.judge is not None:
            text.say(terminal(), f"{what}: {self.score(model):.6g}")

    def calibrated(self) -> tuple[Any, Any]:
        """The quantized network, linked and calibrated or loaded, and an example input."""
        from . import catalog
        from . import torch as side

        args, console = self.args, terminal()
        example = _example(self.batches(), args)
        side.fold_norms(self.network, example)
        self.say_score("float", self.network)
        model = copy.deepcopy(self.network)
        if args.load is not None:
            side.load(model, args.load)
        else:
            done = side.quantize(model, _config(args), example)
            for name in done.left:
                text.say(console, f"left in float, a class of its own: {name}")
            if not args.no_link:
                linked = side.link(model, example, catalog.load(args.rules), dynamo=getattr(args, "dynamo", False))
                text.say(
                    console,
                    f"linked: {len(linked.groups)} groups, {len(linked.added)} quantizers added, "
                    f"{len(linked.disabled)} switched off",
                )
                for sentence in linked.unmapped:
                    text.say(console, f"not linked: {sentence}")
            report = side.calibrate(model, self.batches(), args.batches, args.method, percentile=args.percentile)
            text.say(console, str(report))
        self.say_score("calibrated", model)
        if getattr(args, "off", None) is not None:
            self.switch_off(model, example)
        return model, example

    def switch_off(self, model: Any, example: Any) -> None:
        """Takes the quantization off the units that cost the most in a ranking, and links and calibrates the rest."""
        from . import catalog
        from . import torch as side

        args, console = self.args, terminal()
        try:
            ranking = side.Sensitivity.from_json(args.off.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise TorchError(f"--off {args.off}: cannot be read: {error}") from error
        rules = None if args.no_link else catalog.load(args.rules)
        layers, _ = side.apply_sensitivity(
            model, ranking, top=args.top, budget=args.budget, example=None if args.no_link else example, rules=rules
        )
        text.say(console, f"in float: {', '.join(layers) or 'nothing costs that much'}")
        text.say(
            console, str(side.calibrate(model, self.batches(), args.batches, args.method, percentile=args.percentile))
        )
        self.say_score("calibrated again", model)

    def export(self, model: Any, example: Any) -> None:
        """Writes the ONNX file and says what `check` finds in it."""
        from . import catalog
        from . import torch as side
        from .repair import check

        args = self.args
        written = side.export(
            model, example, args.output, opset=args.opset, dynamo=args.dynamo, dynamic_batch=args.dynamic_batch
        )
        found = check(written, catalog.load(args.rules))
        more = f"; see: qdqgraph check {args.output}" if found else ""
        text.say(terminal(), f"{args.output}: {len(found)} findings{more}")


def _example(loader: Any, args: Namespace) -> Any:
    """The first input of the loader."""
    from torch import Tensor

    batch: Any = None
    try:
        batch = next(iter(loader))
        while not isinstance(batch, Tensor):
            if not isinstance(batch, Mapping | list | tuple):
                raise TypeError
            batch = next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0]
    except StopIteration as error:
        raise TorchError(f"--data {args.data} yields nothing") from error
    except (TypeError, IndexError, KeyError) as error:
        kind = type(batch).__name__
        raise TorchError(f"--data {args.data} yields {kind}; the first entry must be the input") from error
    except Exception as error:
        raise failed(f"--data {args.data}", error) from error
    return batch.to(args.device)


def _config(args: Namespace) -> Config:
    from .torch import Config

    return Config() if args.config is None else Config.read(args.config)


def _quantize(args: Namespace) -> int:
    from . import torch as side

    run = Run(args)
    model, example = run.calibrated()
    if args.save_ptq is not None:
        side.save(model, args.save_ptq)
    run.export(model, example)
    return 0


def _sensitivity(args: Namespace) -> int:
    from . import torch as side
    from .torch.plot import svg

    run, console = Run(args), terminal()
    model, _ = run.calibrated()
    if args.output.exists() and args.force:
        args.output.unlink()
    result = side.sensitivity(
        model,
        run.score,
        direction=args.direction,
        blocks=args.block,
        file=args.output,
        progress=lambda line: text.say(console, line),
    )
    write_text(result.to_csv(), args.output.with_suffix(".csv"), force=True)
    write_text(svg(result), args.output.with_suffix(".svg"), force=True)
    for rank, unit in enumerate(result.units, start=1):
        text.say(console, f"{rank:3} {unit.cost:+.4g} {' '.join(unit.layers)}")
    return 0


def _finetune(args: Namespace) -> int:
    from . import torch as side

    run, console = Run(args), terminal()
    model, example = run.calibrated()
    if args.save_ptq is not None:
        side.save(model, args.save_ptq)
    side.finetune(
        model,
        run.network,
        _Again(run),
        training=side.Training(epochs=args.epochs, rate=args.rate, schedule=args.schedule, steps=args.steps),
        evaluate=run.score if run.judge is not None else None,
        supervise=args.supervise,
        stride=args.stride,
        checkpoint=args.save_qat,
        progress=lambda line: text.say(console, line),
    )
    run.say_score("fine-tuned", model)
    run.export(model, example)
    return 0


class _Again:
    """A loader that the user's function makes anew for each epoch."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __iter__(self) -> Any:
        return iter(self.run.batches())


__all__ = ["torch"]

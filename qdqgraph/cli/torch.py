"""`qdqgraph torch WHAT`: the PyTorch side on the command line. torch is imported when a command runs, never before."""

from __future__ import annotations

import copy
import importlib
import math
import operator
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import QdqgraphError, TorchError
from ..model.files import write_text
from ..report import text
from .console import terminal
from .torch_arguments import age, check, outputs, possible
from .user_code import Batches, called, resolve

if TYPE_CHECKING:
    from ..torch import Config, Linked


def torch(args: Namespace) -> int:
    """`qdqgraph torch WHAT`.

    Raises:
        TorchError: torch or pytorch-quantization is missing, or what the arguments name cannot be used; with the files
            that were written until then.
    """
    try:
        importlib.import_module("qdqgraph.torch")
    except ImportError as error:
        needed = "torch and pytorch-quantization: pip install 'qdqgraph[torch]'"
        raise TorchError(f"the PyTorch side needs {needed} ({error})") from error
    check(args)
    possible(args)
    written = {path: age(path) for path in outputs(args)}
    try:
        return int({"quantize": _quantize, "sensitivity": _sensitivity, "finetune": _finetune}[args.what](args))
    except QdqgraphError as error:
        so_far = _so_far(written)
        error.args = (f"{error}; {so_far}",) if so_far else error.args
        raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_so_far(written)) from None


def _so_far(before: Mapping[Path, int | None]) -> str:
    """Says which files are new since they had these ages; empty where none is."""
    new = [str(path) for path, old in before.items() if age(path) not in (old, None)]
    return f"written so far: {', '.join(new)}" if new else ""


class Session:
    """The network and its data, from the user's functions."""

    def __init__(self, args: Namespace) -> None:
        self.args = args
        sys.path.insert(0, str(Path.cwd()))
        self.make, self.data = resolve(args.model, "--model"), resolve(args.data, "--data")
        self.judge = None if args.eval is None else resolve(args.eval, "--eval")
        self.network: Any = called(self.make, args.model)
        if not hasattr(self.network, "named_modules"):
            raise TorchError(f"--model {args.model} gives a {type(self.network).__name__}, which is no torch module")
        self.network.to(args.device)

    def batches(self) -> Any:
        """The loader, made anew."""
        return Batches(called(self.data, self.args.data), f"--data {self.args.data}")

    def score(self, model: Any) -> float:
        """The user's score of a network.

        Raises:
            TorchError: it is no number.
        """
        assert self.judge is not None
        score = called(self.judge, self.args.eval, model)
        try:
            number = float(score)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            raise TorchError(f"--eval {self.args.eval} gives {score!r}, which is no number")
        return number

    def say_score(self, what: str, model: Any) -> None:
        """Prints the score, where there is a function for it."""
        if self.judge is not None:
            text.say(terminal(), f"{what}: {self.score(model):.6g}")

    def calibrated(self) -> tuple[Any, Any]:
        """The quantized network, linked and calibrated or loaded, and an example input."""
        from .. import torch as side
        from ..rulekit import catalog

        args, console = self.args, terminal()
        example = _example(self.batches(), self.network, args)
        self.network.eval()
        called(self.network, f"--model {args.model}, on the first input,", example)
        side.fold_norms(self.network, example)
        self.say_score("float", self.network)
        model = _copied(self.network, args)
        if args.load is not None:
            side.load(model, args.load)
        else:
            done = side.quantize(model, _config(args), example)
            for name in done.left:
                text.say(console, f"left in float, a class of its own: {name}")
            if not done.replaced:
                raise TorchError(f"--model {args.model} has no layer that could be quantized and is to be")
            if not args.no_link:
                dynamo, opset = getattr(args, "dynamo", False), getattr(args, "opset", None)
                linked = side.link(model, example, catalog.load(args.rules), dynamo=dynamo, opset=opset)
                _say_linked(linked)
        self.fits(model)
        if args.load is None:
            report = side.calibrate(model, self.batches(), args.batches, args.method, percentile=args.percentile)
            text.say(console, str(report))
        self.say_score("calibrated", model)
        if getattr(args, "off", None) is not None:
            self.switch_off(model, example)
        return model, example

    def fits(self, model: Any) -> None:
        """Refuses what does not belong to the quantized network, before it is calibrated.

        Raises:
            TorchError: there is no module for a block or a glob, or a ranking is another network's.
        """
        from ..torch import Sensitivity
        from ..torch.training.finetune import supervised
        from ..torch.training.sensitivity import chosen_layers, continued, units

        args = self.args
        if args.what == "finetune":
            supervised(model, self.network, args.supervise, args.stride)
        if args.what == "sensitivity":
            units(model, args.block)
            if args.output.exists() and not args.force:
                continued(model, args.output, args.direction, args.block)
        elif args.off is not None:
            chosen_layers(model, Sensitivity.read(args.off), top=args.top, budget=args.budget)

    def switch_off(self, model: Any, example: Any) -> None:
        """Takes the quantization off the units that cost the most in a ranking, and links and calibrates the rest."""
        from .. import torch as side
        from ..rulekit import catalog

        args, console = self.args, terminal()
        ranking = side.Sensitivity.read(args.off)
        rules = None if args.no_link else catalog.load(args.rules)
        layers, linked = side.apply_sensitivity(
            model,
            ranking,
            top=args.top,
            budget=args.budget,
            example=None if args.no_link else example,
            rules=rules,
            dynamo=args.dynamo,
            opset=args.opset,
        )
        text.say(console, f"in float: {', '.join(layers) or 'nothing costs that much'}")
        if linked is not None:
            _say_linked(linked)
        text.say(
            console, str(side.calibrate(model, self.batches(), args.batches, args.method, percentile=args.percentile))
        )
        self.say_score("calibrated again", model)

    def export(self, model: Any, example: Any) -> None:
        """Writes the ONNX file and says what `check` finds in it."""
        from .. import torch as side
        from ..repair.rounds import check
        from ..rulekit import catalog

        args = self.args
        written = side.export(
            model, example, args.output, opset=args.opset, dynamo=args.dynamo, dynamic_batch=args.dynamic_batch
        )
        found = check(written, catalog.load(args.rules))
        more = f"; see: qdqgraph check {args.output}" if found else ""
        text.say(terminal(), f"{args.output}: {len(found)} findings{more}")


def _say_linked(linked: Linked) -> None:
    """Prints what `link` did, and what it could not do."""
    added, off = len(linked.added), len(linked.disabled)
    text.say(terminal(), f"linked: {len(linked.groups)} groups, {added} quantizers added, {off} switched off")
    for sentence in linked.unmapped:
        text.say(terminal(), f"not linked: {sentence}")


def _example(loader: Any, network: Any, args: Namespace) -> Any:
    """The first input of the loader, as the network takes it."""
    from torch import Tensor

    from ..torch.calibration.calibrate import fitted, input_of

    batch = next(iter(loader), loader)
    if batch is loader:
        raise TorchError(f"--data {args.data} yields nothing")
    x, _ = input_of(batch)
    if not isinstance(x, Tensor):
        raise TorchError(f"--data {args.data} yields {type(x).__name__}; the first entry must be the input")
    return fitted(network, x)


def _copied(network: Any, args: Namespace) -> Any:
    try:
        return copy.deepcopy(network)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise TorchError(f"--model {args.model}: the network cannot be copied: {reason}") from error


def _config(args: Namespace) -> Config:
    from ..torch import Config

    return Config() if args.config is None else Config.read(args.config)


def _quantize(args: Namespace) -> int:
    from .. import torch as side

    run = Session(args)
    model, example = run.calibrated()
    if args.save_ptq is not None:
        side.save(model, args.save_ptq)
    run.export(model, example)
    return 0


def _sensitivity(args: Namespace) -> int:
    from .. import torch as side
    from ..torch.training.plot import svg

    run, console = Session(args), terminal()
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
    from .. import torch as side

    run, console = Session(args), terminal()
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
    """A loader that the user's function makes anew for each epoch, once: asking for its length keeps it."""

    def __init__(self, run: Session) -> None:
        self.run = run
        self.made: Any = None

    def __length_hint__(self) -> int:
        if self.made is None:
            self.made = self.run.batches()
        return operator.length_hint(self.made)

    def __iter__(self) -> Any:
        made, self.made = self.made, None
        return iter(self.run.batches() if made is None else made)


__all__ = ["torch"]

"""`qdqgraph torch WHAT`: the commands for PyTorch networks. torch is imported only when a command runs.

The commands call `qdqgraph.torch.quantize_network`, `rank_layers` and `finetune_network`; this module reads their
arguments and prints their progress.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TorchError, counted
from ..extras import install_hint
from ..report.lines import say, say_json
from . import torch_arguments as arguments
from . import training_arguments
from .console import terminal
from .user_code import Batches, called, failed, resolve

if TYPE_CHECKING:
    from ..torch import ExportedNetwork, RankedLayers


def torch(args: Namespace) -> int:
    """`qdqgraph torch WHAT`.

    Raises:
        TorchError: torch or pytorch-quantization is missing, or an argument cannot be used; the message lists the files
            written so far.
    """
    try:
        importlib.import_module("qdqgraph.torch")
    except ImportError as error:
        needed = f"torch and pytorch-quantization: {install_hint('torch')}"
        raise TorchError(f"`qdqgraph torch` needs {needed} ({error})") from error
    from ..report.torch_records import exported_json, ranked_json
    from ..torch import FirstInputError, RankedLayers

    commands: dict[str, Callable[[Namespace], ExportedNetwork | RankedLayers]] = {
        "quantize": _quantize,
        "sensitivity": _sensitivity,
        "finetune": _finetune,
    }
    try:
        with redirect_stdout(sys.stderr if args.json else sys.stdout):
            done = commands[args.what](args)
    except FirstInputError as error:
        assert error.__cause__ is not None
        raise failed(f"--model {args.model}, on the first input,", error.__cause__) from error
    if args.json:  # progress, and what the user's functions print, is on stderr
        say_json(terminal(), ranked_json(done) if isinstance(done, RankedLayers) else exported_json(done))
    elif isinstance(done, RankedLayers):
        for rank, unit in enumerate(done.ranking.units, start=1):
            say(terminal(), f"{rank:3} {unit.cost:+.4g} {' '.join(unit.layers)}")
    else:
        more = f"; see: qdqgraph check {done.path}" if done.findings else ""
        say(terminal(), f"{done.path}: {counted(len(done.findings), 'finding')}{more}")
    return 0


class UserFunctions:
    """The functions that `--model`, `--data` and `--eval` name. They are imported when the first of them is called, and
    their errors are shown as the user's own."""

    def __init__(self, args: Namespace) -> None:
        self._names = {"model": args.model, "data": args.data, "eval": args.eval, "loss": getattr(args, "loss", None)}

    @cached_property
    def _functions(self) -> dict[str, Callable[..., Any]]:
        sys.path.insert(0, str(Path.cwd()))
        return {option: resolve(name, f"--{option}") for option, name in self._names.items() if name is not None}

    def model(self) -> Any:
        """The float network."""
        return called(self._functions["model"], self._names["model"])

    def data(self) -> Any:
        """A new iterable of batches."""
        return Batches(called(self._functions["data"], self._names["data"]), f"--data {self._names['data']}")

    def evaluate(self, model: Any) -> Any:
        """The score of a network, as the user's function returns it."""
        return called(self._functions["eval"], self._names["eval"], model)

    def loss(self) -> Callable[..., Any]:
        """The task's loss, as the user named it."""
        return self._functions["loss"]

    def option(self, name: str) -> str:
        """An option of the pipeline as messages write it: the command-line option, with the function it names."""
        name = "eval" if name == "evaluate" else name
        function = self._names.get(name)
        return f"--{name.replace('_', '-')}" + (f" {function}" if function is not None else "")


class TaskLoss:
    """The function that `--loss` names, imported when it is first needed; its errors are shown as the user's own."""

    def __init__(self, functions: UserFunctions, name: str) -> None:
        self._user, self.__qualname__ = functions, name

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the user's function."""
        return inspect.signature(self._user.loss())

    def __call__(self, first: Any, batch: Any) -> Any:
        """The loss of a model or an output, and what the loader yields."""
        return called(self._user.loss(), self.__qualname__, first, batch)


def _common(args: Namespace) -> dict[str, Any]:
    """The arguments common to all three calls."""
    from ..rulekit import catalog
    from ..torch import Network, Preparation

    functions = UserFunctions(args)
    evaluate = None if args.eval is None else functions.evaluate
    return {
        "network": Network(
            functions.model,
            functions.data,
            evaluate,
            args.device,
            functions.option,
            None if getattr(args, "loss", None) is None else TaskLoss(functions, args.loss),
        ),
        "output": args.output,
        "preparation": Preparation(
            config=args.config,
            link=not args.no_link,
            rules=catalog.load(args.rules),
            method=args.method,
            percentile=args.percentile,
            batches=args.batches,
            load=args.load,
            force_load=args.force_load,
            backend=args.backend,
        ),
        "force": args.force,
        "progress": partial(say, terminal()),
        "bar": True,
    }


def _exporting(args: Namespace) -> dict[str, Any]:
    """The arguments of the calls that write an ONNX file."""
    from ..torch import Exporting, FloatUnits, Sensitivity

    arguments.check_off(args)
    ranking = None if args.off is None else Sensitivity.read(args.off)
    return {
        "exporting": Exporting(args.opset, args.dynamo, args.dynamic_batch, args.allow_zero, args.compare),
        "off": None if ranking is None else FloatUnits(ranking, args.top, args.budget),
        "save_ptq": args.save_ptq,
    }


def _quantize(args: Namespace) -> ExportedNetwork:
    from ..torch import quantize_network

    return quantize_network(**_common(args), **_exporting(args))


def _sensitivity(args: Namespace) -> RankedLayers:
    from ..torch import rank_layers

    return rank_layers(**_common(args), direction=args.direction, blocks=args.block)


def _finetune(args: Namespace) -> ExportedNetwork:
    from ..torch import finetune_network

    how = {name: getattr(args, name) for name in ("supervise", "stride", "save_qat", "resume", "restart")}
    how["training"] = training_arguments.training(args)
    return finetune_network(**_common(args), **_exporting(args), **how)

"""`Training`: how a network is fine-tuned, and the checks of these settings before anything runs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch.optim import Optimizer, lr_scheduler

from ...errors import TorchError, guess

Mode = Literal["eval", "train"]
"""The mode of the modules while the network trains."""
OWN_SCHEDULES = ("cosine", "step")
"""Schedules of this package; every other name is a class of torch.optim.lr_scheduler."""
EACH_STEP = ("OneCycleLR", "CyclicLR")
"""Schedules of torch whose documentation calls them after each batch, not after each epoch.
Source: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"""


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        epochs: passes over the loader; steps: batches per epoch, None: all.
        rate: the first learning rate; decay: weight decay.
        optimizer: the name of a class of `torch.optim`; optimizer_args: its other arguments, such as
            {"momentum": 0.9}.
        schedule: "cosine": the rate falls to a hundredth of it; "step": to a tenth after each epoch of `milestones`;
            otherwise the name of a class of `torch.optim.lr_scheduler`, called after each epoch (OneCycleLR and
            CyclicLR: after each step), with `schedule_args`. `T_max`, `total_steps` and `max_lr` are filled in where
            the class needs them; ReduceLROnPlateau receives the negated score, or the loss if nothing is scored.
        milestones: for "step".
        distillation: weight of the mean squared distance to the teacher's features, each in units of the teacher
            feature's mean square; 0: features are not compared.
        output: weight of the same distance between the outputs, the mean over their tensors; 0: outputs are not
            compared. Both 0: the teacher does not run.
        task: weight of the task's loss.
        mode: the mode of both networks while they are compared; heads of detectors give other outputs in each. None:
            "train" with a task loss, "eval" without one.
        freeze_norms: keep the running statistics of normalizations, and normalize with them in either mode. The
            teacher's are always kept.
        learn_amax: train amax as well, with the gradient of LSQ (https://arxiv.org/abs/1902.08153).
        amax_rate: the first learning rate of amax; None: `rate`. It has no weight decay.
        clip: largest norm of the gradient; None: no limit.
        average: decay per step of the exponential moving average of weights, above 0 and below 1, which is what is
            scored and kept; None: no average. In step n it is at most (n + 1) / (n + 10).
        patience: stop after this many epochs in a row without a better score, or without a lower loss if nothing is
            scored; None: never.
        precision: "float32", or autocast to "bfloat16" or "float16", the latter with a scaled loss. Quantizers
            compute in float32.
        seed: for Python, NumPy and torch, before the first epoch; None: none.
    """

    epochs: int = 5
    rate: float = 1e-4
    schedule: str = "cosine"
    milestones: tuple[int, ...] = (3,)
    steps: int | None = None
    distillation: float = 1.0
    output: float = 1.0
    decay: float = 0.0
    clip: float | None = 10.0
    freeze_norms: bool = True
    task: float = 1.0
    mode: Mode | None = None
    optimizer: str = "AdamW"
    optimizer_args: Mapping[str, Any] = field(default_factory=dict)
    schedule_args: Mapping[str, Any] = field(default_factory=dict)
    learn_amax: bool = False
    amax_rate: float | None = None
    average: float | None = None
    patience: int | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    seed: int | None = None

    def described(self) -> dict[str, str]:
        """Each setting as text, for a comparison with those of another run."""
        return {f.name: _text(getattr(self, f.name)) for f in fields(self)}


def _text(value: Any) -> str:
    """A setting as text that is the same in every process: a function is its name."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_text(v)}" for k, v in sorted(value.items())) + "}"
    return str(getattr(value, "__qualname__", type(value).__qualname__)) if callable(value) else repr(value)


def refuse_training(how: Training, *, loss: bool) -> None:
    """Refuses settings that cannot work.

    Args:
        loss: whether there is a task loss.

    Raises:
        TorchError: a number is out of its range, a name is unknown, a class does not have an argument or lacks one, or
            nothing is compared and there is no loss.
    """
    above_zero: dict[str, Any] = {"epochs": how.epochs, "rate": how.rate}
    optional = {n: getattr(how, n) for n in ("steps", "amax_rate", "clip", "patience") if getattr(how, n) is not None}
    for name, value in (above_zero | optional).items():
        if not _is_number(value) or value <= 0:
            raise TorchError(f"{name} {value!r}: give a number above 0")
    for name in ("distillation", "output", "task", "decay"):
        value = getattr(how, name)
        if not _is_number(value) or value < 0:
            raise TorchError(f"{name} {value!r}: give a number of 0 or more")
    if how.average is not None and not (_is_number(how.average) and 0 < how.average < 1):
        raise TorchError(f"average {how.average!r}: give a number above 0 and below 1, such as 0.999")
    _refuse_choice("mode", how.mode, (None, "eval", "train"))
    _refuse_choice("precision", how.precision, ("float32", "bfloat16", "float16"))
    if how.amax_rate is not None and not how.learn_amax:
        raise TorchError("amax_rate has no effect without learn_amax")
    if not (how.distillation or how.output or (loss and how.task)):
        raise TorchError("there is nothing to train with: distillation and output are 0, and there is no task loss")
    optimizer_class(how)
    if how.schedule not in OWN_SCHEDULES:
        schedule_class(how)
    elif how.schedule_args:
        raise TorchError(f"schedule_args have no effect: schedule {how.schedule!r} has no arguments")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refuse_choice(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise TorchError(f"{name} {value!r}: write {', '.join(str(k) for k in known if k is not None)}")


def optimizer_class(how: Training) -> type[Optimizer]:
    """The optimizer's class.

    Raises:
        TorchError: there is no such optimizer, it needs a closure, or it does not have one of the arguments.
    """
    found = _class("optimizer", how.optimizer, torch.optim, Optimizer)
    if inspect.signature(found.step).parameters["closure"].default is inspect.Parameter.empty:
        raise TorchError(f"optimizer {how.optimizer} evaluates the loss several times in a step, which finetune cannot")
    given = {"lr", "weight_decay"} if how.decay else {"lr"}
    _refuse_arguments("optimizer", found, how.optimizer_args, given, reserved=("params", "lr", "weight_decay"))
    return found


def schedule_class(how: Training) -> type[lr_scheduler.LRScheduler]:
    """The schedule's class, of torch.optim.lr_scheduler.

    Raises:
        TorchError: there is no such schedule, it lacks an argument, or does not have one.
    """
    found = _class("schedule", how.schedule, lr_scheduler, lr_scheduler.LRScheduler, OWN_SCHEDULES)
    given = {*filled_arguments(how, found, 1, [how.rate])} | {"optimizer"}
    reserved = ("optimizer", "last_epoch") + (("mode",) if found is lr_scheduler.ReduceLROnPlateau else ())
    _refuse_arguments("schedule", found, how.schedule_args, given, reserved=reserved)
    return found


def filled_arguments(
    how: Training, kind: type[lr_scheduler.LRScheduler], steps: int, rates: list[float]
) -> dict[str, Any]:
    """The arguments of a schedule that follow from the settings, where the class has them and they are not given.

    Args:
        steps: how often the schedule is called in the whole training; rates: those of the optimizer's groups.
    """
    known = inspect.signature(kind).parameters
    found: dict[str, Any] = {"T_max": steps, "total_steps": steps, "max_lr": rates}
    if "epochs" in how.schedule_args:
        del found["total_steps"]
    return {n: v for n, v in found.items() if n in known and n not in how.schedule_args}


def _class(what: str, name: str, module: Any, base: type[Any], more: tuple[str, ...] = ()) -> type[Any]:
    every = {n: x for n, x in vars(module).items() if isinstance(x, type) and issubclass(x, base) and x is not base}
    if name not in every or name.startswith("_"):
        known = [*more, *(n for n in every if not n.startswith("_"))]
        raise TorchError(f"there is no {what} {name!r}{guess(name, known)}; known are {', '.join(sorted(known))}")
    return every[name]


def _refuse_arguments(
    what: str, kind: type[Any], given: Mapping[str, Any], filled: set[str], *, reserved: tuple[str, ...]
) -> None:
    """Refuses arguments that a class does not have, that are set elsewhere, or that are missing."""
    parameters = inspect.signature(kind).parameters
    for name in given:
        if name in reserved:
            raise TorchError(f"{what} {kind.__name__}: {name} is set by the other settings of the training")
    unknown = [n for n in (*given, *filled) if n not in parameters]
    if unknown:
        known = ", ".join(n for n in parameters if n not in reserved)
        raise TorchError(f"{what} {kind.__name__} has no argument {unknown[0]!r}; its arguments are {known}")
    empty = inspect.Parameter.empty
    missing = [n for n, p in parameters.items() if p.default is empty and n not in given and n not in filled]
    missing = [n for n in missing if n not in reserved and parameters[n].kind is not inspect.Parameter.VAR_KEYWORD]
    if missing:
        raise TorchError(f"{what} {kind.__name__} needs the argument {missing[0]!r}")

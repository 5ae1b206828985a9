"""One training run's optimizer, learning rates, scaled loss and average of weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from ...errors import TorchError
from .learned import keep_positive
from .settings import EACH_STEP, OWN_SCHEDULES, Training, filled_arguments, optimizer_class, schedule_class


def learning_rate(how: Training, epoch: int, done: float) -> float:
    """The learning rate of the schedules "cosine" and "step" in an epoch.

    Args:
        epoch: from 1; done: the completed fraction of the epoch, 0 to 1.
    """
    if how.schedule == "step":
        return how.rate * 0.1 ** sum(epoch > milestone for milestone in how.milestones)
    part = (epoch - 1 + done) / how.epochs
    return how.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * part)) / 2)


class Optimization:
    """What changes a model's weights in training.

    Args:
        model: its parameters that require a gradient are trained.
        amax: those of them that are amax.
        how: the settings; length: batches per epoch, 0 if unknown.

    Raises:
        TorchError: torch refuses the arguments of the optimizer or the schedule, or nothing requires a gradient.
    """

    def __init__(self, model: nn.Module, amax: Sequence[nn.Parameter], how: Training, length: int) -> None:
        self._how, self._amax, self._model = how, tuple(amax), model
        self._first = tuple(x.detach().clone() for x in amax)
        own = {id(x) for x in amax}
        weights = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
        self._parameters = [*weights, *amax]
        if not self._parameters:
            raise TorchError("the model has no parameter that requires a gradient, so there is nothing to train")
        kind: Any = optimizer_class(how)
        decay = how.decay if how.decay or "weight_decay" in inspect.signature(kind).parameters else None
        shared = {} if decay is None else {"weight_decay": decay}
        groups: list[dict[str, Any]] = [{"params": weights, "lr": how.rate, **shared}] if weights else []
        if amax:
            no_decay = {} if decay is None else {"weight_decay": 0.0}
            groups.append(
                {"params": list(amax), "lr": how.rate if how.amax_rate is None else how.amax_rate, **no_decay}
            )
        self._rates = [group["lr"] for group in groups]
        try:
            self._optimizer = kind(groups, lr=how.rate, **shared, **how.optimizer_args)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TorchError(f"optimizer {how.optimizer} cannot be used: {error}") from error
        self._schedule = self._new_schedule(length)
        device = next(iter(self._parameters)).device.type
        self._scaler = torch.amp.GradScaler(device, enabled=how.precision == "float16")
        self.average = Average(model, how.average) if how.average is not None else None

    def _new_schedule(self, length: int) -> lr_scheduler.LRScheduler | None:
        how = self._how
        if how.schedule in OWN_SCHEDULES:
            return None
        kind = schedule_class(how)
        calls = how.epochs * (length if how.schedule in EACH_STEP else 1)
        filled = filled_arguments(how, kind, calls, self._rates)
        if not calls and {"T_max", "total_steps"} & filled.keys():
            raise TorchError(f"schedule {how.schedule} needs the number of batches per epoch: give steps")
        try:
            return kind(self._optimizer, **{**filled, **how.schedule_args})
        except (TypeError, ValueError, KeyError) as error:
            raise TorchError(f"schedule {how.schedule} cannot be used: {error}") from error

    def begin_step(self, epoch: int, done: float) -> None:
        """Sets the learning rates of the package's own schedules; `epoch` and `done` as in `learning_rate`."""
        if self._schedule is None:
            factor = learning_rate(self._how, epoch, done) / self._how.rate
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of a scalar loss.

        Raises:
            TorchError: torch cannot compute the gradients, or the optimizer does not support them.
        """
        self._optimizer.zero_grad()
        try:
            torch.autograd.backward(self._scaler.scale(loss))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0].partition(". ")[0]
            raise TorchError(
                f"the backward pass fails: {reason}; try another mode: in one of them the network may keep tensors of "
                "the last batch or change them in place"
            ) from error
        if self._how.clip is not None:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self._parameters, self._how.clip)
        try:
            self._scaler.step(self._optimizer)
        except RuntimeError as error:
            raise TorchError(f"optimizer {self._how.optimizer} fails: {error}") from error
        self._scaler.update()
        keep_positive(self._amax, self._first)
        if self.average is not None:
            self.average.update()
        if self._schedule is not None and self._how.schedule in EACH_STEP:
            self._schedule.step()

    def end_epoch(self, metric: float) -> None:
        """Advances a schedule that is called after each epoch; of the metric, lower is better."""
        if isinstance(self._schedule, lr_scheduler.ReduceLROnPlateau):
            self._schedule.step(metric)
        elif self._schedule is not None and self._how.schedule not in EACH_STEP:
            self._schedule.step()

    def state(self) -> dict[str, Any]:
        """The state of the optimizer, the schedule, the scaled loss and the average, for `restore`."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "first_amax": list(self._first),
            "average": None if self.average is None else self.average.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of a run with the same settings."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._first = tuple(x.to(own.device) for x, own in zip(state["first_amax"], self._first, strict=True))
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.restore(state["average"])


class Average:
    """The exponential moving average of a model's floating-point state: weights, buffers, and amax if it is trained.

    Args:
        decay: per step; in step n it is at most (n + 1) / (n + 10), so the first weights lose their influence soon.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay, self._steps = model, decay, 0
        self._kept = {n: x.detach().clone() for n, x in self._own().items()}

    def _own(self) -> dict[str, Tensor]:
        found = self._model.state_dict()
        return {n: x for n, x in found.items() if isinstance(x, Tensor) and x.is_floating_point()}

    def update(self) -> None:
        """Adds the model's present state."""
        self._steps += 1
        decay = min(self._decay, (self._steps + 1) / (self._steps + 10))
        for name, x in self._own().items():
            self._kept[name].lerp_(x.detach(), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Gives the model the average until the block ends."""
        own = {n: x.detach().clone() for n, x in self._own().items()}
        self._assign(self._kept)
        try:
            yield
        finally:
            self._assign(own)

    def _assign(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, x in self._own().items():
                x.copy_(values[name])

    def state(self) -> dict[str, Any]:
        """For `restore`."""
        return {"steps": self._steps, "kept": self._kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""
        self._steps = state["steps"]
        self._kept = {n: state["kept"][n].to(x.device) for n, x in self._kept.items()}

"""The loss of one batch: the distances to the teacher, and the loss of the task."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import TorchError
from ...log import Progress
from ..calibration.calibrate import Feed
from ..quantizer.quantizer import quantizers
from .comparison import described
from .features import OUTPUT, feature_distance, recorded_features
from .randomness import same_randomness
from .settings import Mode, Training

Loss = Callable[[Any, Any], Tensor]
"""The task's loss, a scalar: of the model's output, or of the model itself if the first parameter is named `model`, and
of what the loader yields."""


def takes_model(loss: Loss) -> bool:
    """Whether a loss runs the model itself: its first parameter is named `model`."""
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):  # a function without a signature
        return False
    return next(iter(parameters), "") == "model"


def set_mode(module: nn.Module, mode: Mode, *, freeze_norms: bool) -> None:
    """Sets the mode of a module; normalizations use their running statistics if frozen, and update them otherwise."""
    module.train(mode == "train")
    for inner in module.modules():
        if isinstance(inner, nn.modules.batchnorm._NormBase):
            inner.train(not freeze_norms)


class Objective:
    """The loss of a model on batches.

    Args:
        model, teacher, loss: as in `finetune`.
        how: modes, weights and precision.
        names: paths of the modules whose outputs are compared.
        run: runs a network on what the loader yields.
        progress: called once if the outputs cannot be compared.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module,
        how: Training,
        names: tuple[str, ...],
        run: Feed,
        loss: Loss | None,
        progress: Progress,
    ) -> None:
        self.model, self.teacher, self.how, self.names, self.loss = model, teacher, how, names, loss
        self._run, self._progress, self._checked = run, progress, False
        self.mode: Mode = how.mode or ("eval" if loss is None else "train")
        self._recorded = names + ((OUTPUT,) if how.output else ())
        self._runs_itself = loss is not None and takes_model(loss)

    def begin_epoch(self) -> None:
        """Puts both networks into their mode."""
        set_mode(self.model, self.mode, freeze_norms=self.how.freeze_norms)
        set_mode(self.teacher, self.mode, freeze_norms=True)

    def value(self, batch: Any) -> Tensor:
        """The loss of a batch, a scalar in float32.

        Raises:
            TorchError: outputs cannot be compared, the task's loss is not a scalar tensor, or no gradient reaches a
                weight.
        """
        if not self._checked:
            self._refuse_uncalibrated(batch)
        parts = []
        with (
            recorded_features(self.model, self._recorded) as ours,
            recorded_features(self.teacher, self._recorded) as theirs,
        ):
            if self._recorded:
                with (
                    same_randomness() if self.mode == "train" else nullcontext(),
                    torch.no_grad(),
                    self._autocast(batch),
                ):
                    self._forward(self.teacher, batch)
            with self._autocast(batch):
                task = self._forward(self.model, batch)
        if task is not None and self.how.task:
            parts.append(self.how.task * task)
        if self.names:
            found = feature_distance(ours, theirs, self.names)
            parts += [] if found is None else [self.how.distillation * found]
        if self.how.output:
            found = feature_distance(ours, theirs, (OUTPUT,))
            parts += [] if found is None else [self.how.output * found]
            if not self._checked and not ours.get(OUTPUT):
                self._progress("the outputs are not compared: the loss does not call the model itself")
        self._checked = True
        parts = [part.float() for part in parts if part.requires_grad]
        if not parts:
            raise TorchError(
                f"no gradient reaches a weight in mode {self.mode}: neither features nor outputs nor the task's loss "
                "depend on one; choose another mode, supervise other modules, or give a loss"
            )
        return torch.stack(parts).sum()

    def _forward(self, network: nn.Module, batch: Any) -> Tensor | None:
        """Runs a network; the task's loss, if there is one."""
        if self.loss is not None and self._runs_itself:
            return _scalar(self.loss(network, batch))
        try:
            output = self._run(network, batch)
        except TorchError as error:
            if self.mode == "eval":
                raise
            hint = "a loss with the parameter `model` can pass what it needs, or choose mode eval"
            raise TorchError(f"{error}; this is in mode train: {hint}") from error
        if self.loss is None or network is not self.model or not self.how.task:
            return None
        return _scalar(self.loss(output, batch))

    def _autocast(self, batch: Any) -> Any:
        device = next(iter(self.model.parameters())).device.type
        kind = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.how.precision]
        return torch.autocast(device, kind, enabled=kind != torch.float32)

    def _refuse_uncalibrated(self, batch: Any) -> None:
        """Refuses quantizers without amax that the model reaches in eval mode; those of auxiliary heads, which it does
        not reach, are reported."""
        missing = {n: q for n, q in quantizers(self.model).items() if not q._disabled and q.amax is None}
        if not missing:
            return
        reached: list[str] = []
        handles = [
            q.register_forward_pre_hook(lambda module, args, name=name: reached.append(name))
            for name, q in missing.items()
        ]
        self.model.eval()
        try:
            with same_randomness(), torch.no_grad():
                self._run(self.model, batch)
        finally:
            for handle in handles:
                handle.remove()
            self.begin_epoch()
        if reached:
            raise TorchError(f"calibrate first: {reached[0]} has no amax")
        self._progress(f"in float while training, because evaluation does not reach them: {', '.join(missing)}")


def _scalar(value: Any) -> Tensor:
    """What a task's loss returned, as a tensor without dimensions.

    Raises:
        TorchError: it is not a tensor of one element.
    """
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise TorchError(
            f"the loss returns {described(value)}: return a tensor of one element, such as a sum or a mean"
        )
    return value.reshape(())

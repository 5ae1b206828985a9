"""`finetune`: quantization-aware training with the float network as teacher: its features and outputs are the
target."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...errors import TorchError
from ..calibration.calibrate import Feed, run_first_input
from ..quantizer.choice import Choice, select_modules
from ..quantizer.quantizer import isolated_run, quantizers
from .state import save

Loss = Callable[[Any, Any], Tensor]
"""The task's loss: the model's output, what the loader yields → a scalar."""


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        epochs: passes over the loader.
        rate: the first learning rate of AdamW.
        schedule: "cosine": the rate falls to a hundredth of it; "step": to a tenth after each epoch of `milestones`.
        steps: batches per epoch; None: all.
        distillation: weight of the mean squared distance to the teacher's features, each in units of the teacher
            feature's mean square; output: weight of the same distance between the outputs.
        decay: weight decay; clip: largest norm of the gradient.
        freeze_norms: keep the running statistics of BatchNorms.
    """

    epochs: int = 5
    rate: float = 1e-4
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[int, ...] = (3,)
    steps: int | None = None
    distillation: float = 1.0
    output: float = 1.0
    decay: float = 0.0
    clip: float = 10.0
    freeze_norms: bool = True


@dataclass(frozen=True)
class Finetuned:
    """The result of training.

    Attributes:
        losses: the mean loss of each epoch.
        scores: before the first and after each epoch; empty without `evaluate`.
        best: the epoch, from 1, whose weights the model now has; 0: the weights before training.
        supervised: paths of the modules whose features were compared.
    """

    losses: tuple[float, ...]
    scores: tuple[float, ...]
    best: int
    supervised: tuple[str, ...]


def finetune(
    model: nn.Module,
    teacher: nn.Module,
    loader: Iterable[Any],
    *,
    training: Training | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    loss: Loss | None = None,
    supervise: Choice = (),
    stride: int = 1,
    feed: Feed | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Finetuned:
    """Trains a calibrated model in place; amax stays as calibrated.

    Args:
        model: quantized and calibrated; it trains in train mode, and its modes are restored.
        teacher: the float network, with the same module paths; not changed.
        loader: iterated once per epoch; yields batches as for `calibrate`.
        training: how long and how fast; None: `Training()`.
        evaluate: scores the model, higher is better; the best epoch's weights are kept. None: those of the last one.
        loss: the task's own loss, added to the distances; None: only the distances.
        supervise: modules whose outputs are compared with the teacher's; empty: every convolution and Linear.
        stride: supervise only every stride-th of these.
        feed: runs a model on what the loader yields, as in `calibrate`.
        checkpoint: a file for the best state so far, for `load`.
        progress: called with one line per epoch.

    Raises:
        TorchError: a quantizer has no amax, the loader yields no batches or no inputs, no module is supervised, the
            teacher has no module of a path, the loss is not finite, or the checkpoint cannot be written.
    """
    how, run = training or Training(), feed or run_first_input
    missing = [n for n, q in quantizers(model).items() if not q._disabled and q.amax is None]
    if missing or not quantizers(model):
        raise TorchError(f"calibrate first: {missing[0] if missing else 'the model'} has no amax")
    names = supervised_modules(model, teacher, supervise, stride)
    modes = {m: m.training for m in (*model.modules(), *teacher.modules())}
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, how.rate, weight_decay=how.decay)
    best, kept, losses, scores = 0, copy.deepcopy(model.state_dict()), list[float](), list[float]()
    try:
        with isolated_run(model), isolated_run(teacher):
            if evaluate is not None:
                scores.append(evaluate(model.eval()))
            if checkpoint is not None:
                save(model, checkpoint)
            teacher.eval()
            for epoch in range(1, how.epochs + 1):
                _train_mode(model, how.freeze_norms)
                losses.append(_epoch(model, teacher, loader, names, how, epoch, optimizer, run, loss))
                line = f"epoch {epoch} of {how.epochs}: loss {losses[-1]:.6g}"
                if evaluate is not None:
                    scores.append(evaluate(model.eval()))
                    line += f", score {scores[-1]:.6g}"
                progress(line)
                if evaluate is None or scores[-1] > scores[best]:
                    best, kept = epoch, copy.deepcopy(model.state_dict())
                    if checkpoint is not None:
                        save(model, checkpoint)
    finally:
        for module, mode in modes.items():
            module.training = mode
        model.load_state_dict(kept)
    return Finetuned(tuple(losses), tuple(scores), best, names)


def learning_rate(how: Training, epoch: int, done: float) -> float:
    """The learning rate in an epoch.

    Args:
        epoch: from 1; done: the completed fraction of the epoch, 0 to 1.
    """
    if how.schedule == "step":
        return how.rate * 0.1 ** sum(epoch > milestone for milestone in how.milestones)
    part = (epoch - 1 + done) / how.epochs
    return how.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * part)) / 2)


def supervised_modules(model: nn.Module, teacher: nn.Module, supervise: Choice, stride: int) -> tuple[str, ...]:
    """The paths of the modules whose outputs are compared with the teacher's; see `finetune` for the arguments.

    Raises:
        TorchError: there are none, a pattern matches none, or the teacher has no module at one of the paths.
    """
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    every = {n: m for n, m in model.named_modules() if n}
    if not callable(supervise) and not supervise:
        names = [n for n, m in every.items() if isinstance(m, kinds)]
    else:
        selected = select_modules(every, supervise, "supervise")
        names = [n for n in every if n in selected and n in dict(teacher.named_modules())]
    names = names[:: max(stride, 1)]
    unknown = set(names) - set(dict(teacher.named_modules()))
    if unknown:
        raise TorchError(f"the teacher has no module {sorted(unknown)[0]!r}: it must be the network before quantize")
    if not names:
        raise TorchError("no module is supervised: choose modules that the teacher has as well")
    return tuple(names)


def _train_mode(model: nn.Module, freeze_norms: bool) -> None:
    model.train()
    for module in model.modules() if freeze_norms else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _epoch(
    model: nn.Module,
    teacher: nn.Module,
    loader: Iterable[Any],
    names: tuple[str, ...],
    how: Training,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    run: Feed,
    loss: Loss | None,
) -> float:
    """Trains for one epoch; returns the mean loss."""
    total, count = 0.0, 0
    length = how.steps or operator.length_hint(loader)
    with _features(model, names) as ours, _features(teacher, names) as theirs:
        for step, batch in enumerate(loader):
            if how.steps is not None and step >= how.steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(how, epoch, step / length if length else 0.0)
            with torch.no_grad():
                expected = run(teacher, batch)
            found = run(model, batch)
            parts = [how.distillation * _distance(ours[n], theirs[n]) / len(names) for n in names if n in ours]
            parts += [how.output * _distance(a, b) for a, b in zip(_tensors(found), _tensors(expected), strict=True)]
            parts += [loss(found, batch)] if loss is not None else []
            value = torch.stack([part.float().reshape(()) for part in parts]).sum()
            if not bool(torch.isfinite(value)):
                shown = float(value.detach())
                raise TorchError(f"the loss is {shown} in step {step + 1} of epoch {epoch}: lower the rate")
            optimizer.zero_grad()
            torch.autograd.backward(value)
            torch.nn.utils.clip_grad_norm_(model.parameters(), how.clip)
            optimizer.step()
            total, count = total + float(value.detach()), count + 1
            ours.clear()
            theirs.clear()
    if not count:
        raise TorchError("the loader yields no batch to train with")
    return total / count


def _distance(found: Tensor, expected: Tensor) -> Tensor:
    """Mean squared distance in units of the expected tensor's own mean square."""
    expected = expected.detach()
    return nn.functional.mse_loss(found, expected) / expected.square().mean().clamp_min(1e-12)


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return [x for part in values for x in _tensors(part)]


@contextmanager
def _features(model: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """The first output tensors of modules in the last run, by path."""
    found: dict[str, Tensor] = {}
    handles = []
    for name in names:

        def keep(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            tensors = _tensors(output)
            if tensors:
                found[name] = tensors[0]

        handles.append(model.get_submodule(name).register_forward_hook(keep))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()

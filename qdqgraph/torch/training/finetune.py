"""`finetune`: quantization-aware training with the float network as teacher: its features and outputs are the target,
beside the loss of the task."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import TorchError
from ...log import Progress, log_step
from ...model.writing.outputs import refuse_to_overwrite
from ..calibration.calibrate import Feed, run_first_input
from ..quantizer.choice import Choice
from ..quantizer.quantizer import isolated_run, quantizers
from .checkpoint import ENTRY, Run, read_checkpoint, run_of, write_checkpoint
from .features import supervised_modules
from .learned import training_quantizers
from .objective import Loss, Objective
from .optimization import Optimization
from .randomness import random_state, restore_random_state, seed_everything
from .settings import Training, refuse_training
from .state import restore_content, save


@dataclass(frozen=True)
class Finetuned:
    """The result of training.

    Attributes:
        losses: the mean loss of each epoch.
        scores: before the first and after each epoch; empty without `evaluate`.
        best: the epoch, from 1, whose weights the model now has; 0: the weights before training.
        supervised: paths of the modules whose features were compared.
        resumed: the epoch after which an interrupted run went on; 0: it began.
    """

    losses: tuple[float, ...]
    scores: tuple[float, ...]
    best: int
    supervised: tuple[str, ...]
    resumed: int = 0


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
    resume: Path | None = None,
    force: bool = False,
    identity: Mapping[str, str] | None = None,
    progress: Progress = log_step,
) -> Finetuned:
    """Trains a calibrated model in place; amax stays as calibrated, unless `Training.learn_amax` is set.

    Model and teacher run in the same mode, `Training.mode`. What they return is compared by structure: dictionaries,
    lists, tuples and dataclasses of tensors. Quantizers without amax that the model does not reach in eval mode, such
    as those of auxiliary heads, do nothing while it trains.

    Args:
        model: quantized and calibrated; its modes are restored.
        teacher: the float network, with the same module paths; not changed.
        loader: iterated once per epoch; yields batches as for `calibrate`.
        training: how long and how fast; None: `Training()`.
        evaluate: scores the model, higher is better; the best epoch's weights are kept. None: those of the last one.
        loss: the task's own loss, a scalar tensor, added to the distances. A function whose first parameter is named
            `model` is called with the network and what the loader yields, and runs the network itself; any other with
            the network's output and what the loader yields. None: only the distances.
        supervise: modules whose outputs are compared with the teacher's; empty: every convolution and Linear.
        stride: supervise only every stride-th of these.
        feed: runs a model on what the loader yields, as in `calibrate`.
        checkpoint: a file for the best state so far, for `load`.
        resume: a file that is written after each epoch. If it exists, the run goes on from it, and ends with the
            weights of an uninterrupted run, bit for bit, if the data are the same: the generators of Python, NumPy,
            torch and a DataLoader are restored, and those of a loader that has `state_dict` and `load_state_dict`.
        force: overwrite an existing `checkpoint`; a run that goes on from `resume` replaces it in any case.
        identity: what else identifies the run, as text, for a comparison with that of `resume`.
        progress: called with one line per epoch.

    Raises:
        TorchError: a setting cannot work, a quantizer has no amax, the loader yields no batches or no inputs, no module
            is supervised, the teacher has no module of a path, the outputs of both differ in structure or shape, the
            loss is not a finite scalar or no gradient reaches a weight, `resume` belongs to another run, or a file
            cannot be written.
        ModelError: `checkpoint` exists, and neither `force` is set nor an interrupted run goes on.
    """
    if checkpoint is not None:
        refuse_to_overwrite(Path(checkpoint), force=force or (resume is not None and resume.exists()))
    how, run = training or Training(), feed or run_first_input
    refuse_training(how, loss=loss is not None)
    names = supervised_modules(model, teacher, supervise, stride) if how.distillation else ()
    settings = run_settings(how, loss) | {"supervised": ", ".join(names)} | dict(identity or {})
    earlier = None
    if resume is not None and resume.exists():
        content = read_checkpoint(resume)
        earlier = run_of(content, settings, resume)
        restore_content(model, content, resume)
    if how.epochs > 1 and isinstance(loader, Iterator):
        raise TorchError(
            f"the loader is a {type(loader).__name__}, which yields its batches only once, but there are {how.epochs} "
            "epochs: pass a list or a DataLoader"
        )
    enabled = {n: q for n, q in quantizers(model).items() if not q._disabled}
    if not quantizers(model) or (enabled and all(q.amax is None for q in enabled.values())):
        raise TorchError(f"calibrate first: {next(iter(enabled), 'the model')} has no amax")
    modes = {m: m.training for m in (*model.modules(), *teacher.modules())}
    buffers = {n: x.detach().clone() for n, x in teacher.named_buffers()}
    state = earlier or Run(settings, 0, copy.deepcopy(model.state_dict()))
    resumed = state.epoch
    try:
        if resume is not None and earlier is not None:
            progress(f"{resume}: goes on after epoch {state.epoch} of {how.epochs}")
            if checkpoint is not None:
                _save_kept(model, state, checkpoint)
        if how.seed is not None and earlier is None:
            seed_everything(how.seed)
        if not state.finished:
            objective = Objective(model, teacher, how, names, run, loss, progress)
            with (
                isolated_run(model),
                isolated_run(teacher),
                training_quantizers(model, learn_amax=how.learn_amax) as amax,
            ):
                state.length = state.length or how.steps or operator.length_hint(loader)
                optimization = Optimization(model, amax, how, state.length)
                if earlier is not None:
                    optimization.restore(content[ENTRY]["optimization"])
                    _restore_loss(loss, content[ENTRY]["random"])
                    restore_random_state(content[ENTRY]["random"], loader)
                parts = _Training(
                    model, loader, how, state, objective, optimization, evaluate, checkpoint, resume, progress
                )
                if earlier is None:
                    parts.begin()
                parts.go_on()
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, buffer in teacher.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
        model.load_state_dict(state.kept)
    return Finetuned(tuple(state.losses), tuple(state.scores), state.best, names, resumed)


def run_settings(how: Training, loss: Loss | None) -> dict[str, str]:
    """What identifies a training run, as text; the paths of supervised modules are added once there is a network."""
    name = "none" if loss is None else str(getattr(loss, "__qualname__", type(loss).__qualname__))
    return {**how.described(), "loss": name}


@dataclass(frozen=True)
class _Training:
    """A run's parts; `state` is what was done so far, and is changed."""

    model: nn.Module
    loader: Iterable[Any]
    how: Training
    state: Run
    objective: Objective
    optimization: Optimization
    evaluate: Callable[[nn.Module], float] | None
    checkpoint: Path | None
    resume: Path | None
    progress: Progress

    def begin(self) -> None:
        """Scores and writes the model before the first epoch."""
        if self.evaluate is not None:
            self.state.scores.append(self.evaluate(self.model.eval()))
        self._write()
        if self.checkpoint is not None:
            save(self.model, self.checkpoint, force=True)

    def go_on(self) -> None:
        """Trains for the epochs that are left."""
        state, how = self.state, self.how
        while not state.finished:
            epoch = state.epoch + 1
            state.losses.append(_epoch(self.loader, how, epoch, state.length, self.objective, self.optimization))
            better = self._keep_if_better(epoch)
            self.optimization.end_epoch(-state.scores[-1] if state.scores else state.losses[-1])
            state.waited = 0 if better else state.waited + 1
            state.epoch = epoch
            impatient = how.patience is not None and state.waited >= how.patience
            state.finished = impatient or epoch >= how.epochs
            self._write()
            if impatient and epoch < how.epochs:
                self.progress(f"stopped after {state.waited} epochs in a row that were not better")

    def _keep_if_better(self, epoch: int) -> bool:
        """Scores an epoch's weights, or their average; returns whether they are better than all before."""
        state, average = self.state, self.optimization.average
        line = f"epoch {epoch} of {self.how.epochs}: loss {state.losses[-1]:.6g}"
        with average.in_place() if average is not None else nullcontext():
            if self.evaluate is not None:
                state.scores.append(self.evaluate(self.model.eval()))
                line += f", score {state.scores[-1]:.6g}"
            if state.scores:
                better = state.scores[-1] > state.scores[state.best]
            else:
                better = state.losses[-1] < min(state.losses[:-1], default=math.inf)
            if better or not state.scores:
                state.best, state.kept = epoch, copy.deepcopy(self.model.state_dict())
                if self.checkpoint is not None:
                    save(self.model, self.checkpoint, force=True)
        self.progress(line)
        return better

    def _write(self) -> None:
        if self.resume is not None:
            random = {**random_state(self.loader), "loss": _loss_state(self.objective.loss)}
            write_checkpoint(self.resume, self.model, self.state, self.optimization.state(), random)


def _epoch(
    loader: Iterable[Any], how: Training, epoch: int, length: int, objective: Objective, optimization: Optimization
) -> float:
    """Trains for one epoch; returns the mean loss."""
    total, count = 0.0, 0
    objective.begin_epoch()
    for step, batch in enumerate(loader):
        if how.steps is not None and step >= how.steps:
            break
        optimization.begin_step(epoch, step / length if length else 0.0)
        value = objective.value(batch)
        if not bool(torch.isfinite(value)):
            shown = float(value.detach())
            half = any(x.dtype == torch.float16 for x in objective.model.parameters())
            advice = "train float32 weights with precision float16, not float16 weights" if half else "lower the rate"
            raise TorchError(f"the loss is {shown} in step {step + 1} of epoch {epoch}: {advice}")
        optimization.step(value)
        total, count = total + float(value.detach()), count + 1
    if not count:
        raise TorchError("the loader yields no batch to train with")
    return total / count


def _save_kept(model: nn.Module, state: Run, path: Path) -> None:
    """Saves the best state of an interrupted run."""
    own = copy.deepcopy(model.state_dict())
    model.load_state_dict(state.kept)
    save(model, path, force=True)
    model.load_state_dict(own)


def _loss_state(loss: Any) -> Any:
    """The state of a loss that has one, such as a module; None of others."""
    found = getattr(loss, "state_dict", None)
    return found() if callable(found) else None


def _restore_loss(loss: Any, random: Mapping[str, Any]) -> None:
    if random["loss"] is not None:
        loss.load_state_dict(random["loss"])

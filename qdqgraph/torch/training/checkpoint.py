"""A training run in a file, written after each epoch, from which an interrupted run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ...errors import TorchError
from .state import content_of, read_state, refuse_unreadable, write_content

ENTRY = "training"
"""The entry that a checkpoint has in addition to those of a saved state."""


@dataclass
class Run:
    """What a training run has done so far.

    Attributes:
        settings: what identifies the run, as text: a checkpoint of another run is refused.
        length: batches per epoch, 0 if unknown.
        epoch: how many epochs are complete; finished: whether there are no more.
        losses, scores, best: as in `Finetuned`.
        kept: the best state so far.
        waited: how many epochs in a row were not better.
    """

    settings: dict[str, str]
    length: int
    kept: dict[str, Any]
    epoch: int = 0
    finished: bool = False
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best: int = 0
    waited: int = 0


def write_checkpoint(
    path: Path, model: nn.Module, run: Run, optimization: Mapping[str, Any], random: Mapping[str, Any]
) -> None:
    """Writes a run, completely or not at all: a saved state of the model, and what training needs to go on.

    Raises:
        TorchError: a state is not plain data, or the file cannot be written.
    """
    own = {f.name: getattr(run, f.name) for f in fields(run)}
    entry = {"run": own, "optimization": dict(optimization), "random": dict(random)}
    entry = tree_map(lambda x: x.detach().cpu() if isinstance(x, Tensor) else x, entry)
    refuse_unreadable((f"the checkpoint's {name}", value) for name, value in entry.items())
    write_content({**content_of(model), ENTRY: entry}, path)


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The content of a checkpoint; its entry `ENTRY` has `run`, `optimization` and `random`.

    Raises:
        TorchError: the file is not a checkpoint.
    """
    content = read_state(path)
    if ENTRY not in content:
        raise TorchError(f"{path}: this is a saved state, not the checkpoint of a training run")
    return content


def run_of(content: Mapping[str, Any], settings: Mapping[str, str], path: Path) -> Run:
    """The run of a checkpoint.

    Raises:
        TorchError: it has other settings; with their names.
    """
    run = Run(**content[ENTRY]["run"])
    refuse_other_run(run.settings, settings, path)
    return run


def refuse_other_run(earlier: Mapping[str, str], settings: Mapping[str, str], path: Path) -> None:
    """Refuses a checkpoint with other settings; only settings that both have are compared.

    Raises:
        TorchError: one differs.
    """
    other = [n for n in settings if n in earlier and earlier[n] != settings[n]]
    if other:
        shown = ", ".join(f"{n} (there {earlier[n]}, here {settings[n]})" for n in other[:3])
        raise TorchError(
            f"{path}: this is the checkpoint of another training run, which differs in {shown}: train with its "
            "settings, name another file, or remove it"
        )

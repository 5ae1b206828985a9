"""`worst_layers`: the layers that a file of `sensitivity`, or the output of `error --json`, lists first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...errors import ModelError, reason
from .ranking import Sensitivity


@dataclass(frozen=True)
class _Layer:
    layer: str


@dataclass(frozen=True)
class _Errors:
    """What `error --json` prints, as far as it is needed here."""

    model: str
    file: str
    skipped: dict[str, str]
    layers: tuple[_Layer, ...]


def worst_layers(path: Path, model: str, top: int | None, least: float | None) -> tuple[str, ...]:
    """The nodes of the first units or layers of a file, by output tensor.

    Args:
        path: a file of `sensitivity`, or what `error --json` printed.
        model: `digest` of the model that it must be of.
        top: at most so many units or layers.
        least: only units that gain at least this in float.

    Raises:
        ModelError: the file cannot be read, is no such file, or is of another model; `least` with a file of `error`; or
            as `Sensitivity.worst`.
    """
    try:
        errors = msgspec.json.decode(path.read_bytes(), type=_Errors)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {reason(error)}") from error
    except (msgspec.DecodeError, RecursionError):  # no output of `error`
        return layers_of(Sensitivity.read(path), str(path), model, top, least)
    if least is not None:
        raise ModelError(f"{path} is the output of `error`, which measures no gain: use --top without --min-gain")
    _refuse_other(str(path), errors.model, errors.file, model)
    if top is None or top < 1:
        raise ModelError(f"top {top}: give the number of layers, 1 or more")
    return tuple(layer.layer for layer in errors.layers[:top])


def layers_of(ranking: Sensitivity, where: str, model: str, top: int | None, least: float | None) -> tuple[str, ...]:
    """The same of a ranking, which messages call `where`."""
    _refuse_other(where, ranking.asked.model, ranking.file, model)
    try:
        found = ranking.worst(top, least)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
    return tuple(dict.fromkeys(layer for unit in found for layer in unit.layers))


def _refuse_other(where: str, found: str, file: str, model: str) -> None:
    if found != model:
        raise ModelError(f"{where} is of another model than this ({file} at that time): measure this one")

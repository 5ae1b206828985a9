"""Checks before any work is done: files that would be overwritten, options that contradict each other, and features
that this machine lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import empty

from ...calibration.methods import find_method
from ...calibration.methods.percentile import refuse_percentile
from ...errors import TorchError
from ...model.writing.outputs import refuse_to_overwrite
from ..exporting.export import refuse_missing_exporter, resolve_opset
from ..quantization.config import Config
from ..quantizer.backend import find_backend
from ..training.digest import state_digest
from ..training.ranking import Direction, Sensitivity
from ..training.sensitivity import refuse_amount
from ..training.state import read_state
from .options import Exporting, FloatUnits, Network, Preparation


def refuse_files(files: Sequence[Path], *, force: bool) -> None:
    """Refuses files that cannot all be written.

    Args:
        files: all files that a call writes.
        force: whether existing files may be replaced.

    Raises:
        TorchError: two of the paths are one file.
        ModelError: a file exists and may not be replaced, is a folder, or its folder is missing or not writable.
    """
    for number, path in enumerate(files):
        if path.resolve() in [other.resolve() for other in files[:number]]:
            raise TorchError(f"{path} would be written twice: name another file")
        refuse_to_overwrite(path, force=force)


def refuse_ranking(network: Network, preparation: Preparation, output: Path, direction: Direction) -> None:
    """Refuses an existing ranking that the run cannot continue.

    Raises:
        TorchError: it has the other direction, or ranks another model than the state to be loaded.
    """
    found = existing_ranking(output)
    if found is None:
        return
    option = network.option
    if found.direction != direction:
        raise TorchError(
            f"{output} is a ranking by {option('direction')} {found.direction}: use that, name another file, or "
            f"{option('force')}"
        )
    if preparation.load is not None and found.model != state_digest(read_state(Path(preparation.load))["state"]):
        raise TorchError(
            f"{output} ranks another model than {preparation.load}: name another file, or {option('force')}"
        )


def existing_ranking(output: Path) -> Sensitivity | None:
    """The ranking that an earlier run wrote; None if the file is missing or is not a ranking."""
    try:
        return Sensitivity.read(output)
    except TorchError:
        return None


def refuse_preparation(network: Network, preparation: Preparation, off: FloatUnits | None = None) -> None:
    """Refuses options that contradict each other, or that this machine does not support.

    Args:
        off: units to leave in float: the network is then calibrated even if a state is loaded.

    Raises:
        CalibrationError: there is no such method or percentile.
        TorchError: `off` does not define how many units, options have no effect because a state is loaded, its file
            contains none, the backend is not installed, or the device cannot be used.
        RuleError: the configuration file cannot be read, or an entry is wrong.
    """
    option, given = network.option, preparation
    if off is not None:
        refuse_amount(off.top, off.budget)
    if given.method:
        find_method(given.method)
    if given.percentile is not None:
        refuse_percentile(given.percentile)
    if given.load is not None:
        load = option("load")
        if given.config is not None:
            raise TorchError(
                f"{option('config')} defines how to quantize, but the state of {load} is already quantized: omit one"
            )
        for name in () if off is not None else ("method", "percentile", "batches"):
            if getattr(given, name):
                raise TorchError(f"{option(name)} has no effect: the state of {load} is already calibrated; omit one")
        read_state(Path(given.load))
    elif given.force_load:
        raise TorchError(f"{option('force_load')} has no effect without {option('load')}")
    else:
        find_backend(given.backend)
    if isinstance(given.config, Path):
        Config.read(given.config)
    try:
        empty(1, device=network.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TorchError(f"{option('device')} {network.device} cannot be used here: {reason}") from error


def refuse_exporting(exporting: Exporting) -> None:
    """Refuses an export that the exporter cannot write.

    Raises:
        TorchError: it does not write the opset, the dynamo exporter lacks onnxscript, or the number of batches to
            compare is negative.
    """
    if exporting.compare < 0:
        raise TorchError(f"compare {exporting.compare}: give the number of batches to compare, or 0")
    resolve_opset(exporting.opset, exporting.dynamo)
    refuse_missing_exporter(exporting.dynamo)


def run_identity(preparation: Preparation, exporting: Exporting, off: FloatUnits | None) -> dict[str, str]:
    """What identifies a training run beside its settings, as text: how the network was prepared."""
    config = Config.read(preparation.config) if isinstance(preparation.config, Path) else preparation.config
    given = {
        "config": None if config is None else config.plain({}, {}),
        "link": preparation.link,
        "method": preparation.method,
        "percentile": preparation.percentile,
        "calibration batches": preparation.batches,
        "load": None if preparation.load is None else str(preparation.load),
        "dynamo": exporting.dynamo,
        "opset": exporting.opset,
        "float units": None if off is None else (off.ranking.model, off.top, off.budget),
    }
    return {name: str(value) for name, value in given.items()}

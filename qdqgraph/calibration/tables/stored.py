"""Scales from a file of our own statistics (`--statistics`), without the samples that it was measured on."""

from __future__ import annotations

from pathlib import Path

from ...errors import ModelError, reason
from ..fitted import Fitted
from ..methods.percentile import DEFAULT_PERCENTILE
from ..statistics.floating import FloatModel
from ..statistics.scales import AUTO
from ..statistics.statistics import Statistics

ZIP = b"PK\x03\x04"
"""How every .npz file starts."""


def recognizes(path: Path) -> bool:
    """Whether a file is an .npz file, as statistics are; no format of another tool is one.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(ZIP)) == ZIP
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {reason(error)}") from error


def fitted(path: Path, network: FloatModel, name: str = AUTO, percentile: float = DEFAULT_PERCENTILE) -> Fitted:
    """The scales that a method chooses from statistics.

    Args:
        path: a file of statistics.
        network: the float network that they must be of.
        name: the method, a name of `calibration.methods`; "auto" chooses the lesser squared error of max and mse.
        percentile: for the method percentile, in percent.

    Raises:
        CalibrationError: the file cannot be read, is damaged, or is of another network.
    """
    return Fitted(Statistics.load(path, network=network.digest), None, network.wires, name, percentile)

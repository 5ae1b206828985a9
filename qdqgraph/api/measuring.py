"""Scales from data: how a call of `fix` measures the sites of its graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx

from ..calibration import tables
from ..calibration.data.samples import Samples
from ..calibration.fitted import Fitted
from ..calibration.methods import methods
from ..calibration.methods.percentile import DEFAULT_PERCENTILE, refuse_percentile
from ..calibration.statistics.floating import FloatModel, float_model
from ..calibration.statistics.measure import measure
from ..calibration.statistics.running import DEFAULT_MEMORY
from ..calibration.statistics.scales import AUTO
from ..calibration.statistics.sites import inside, sites_of
from ..calibration.statistics.statistics import Statistics
from ..calibration.tables import stored
from ..calibration.tables.first import TableFirst
from ..errors import CalibrationError, ModelError, counted
from ..graph.graph import Graph
from ..graph.pair import pairs
from ..model.protos import names as tensor_names
from ..model.writing.outputs import refuse_to_overwrite
from ..repair.measured import Measured
from ..repair.work import Measure
from . import given
from .given import Progress

SHOWN = 10
"""Names in a message."""
NONE = "none"
"""The method that measures nothing: the data serve the numeric check alone."""


@dataclass(frozen=True)
class Calibration:
    """How scales are measured.

    Attributes:
        method: a name of `calibration.methods`, "auto", or "none" to keep every scale.
        percentile: for the method percentile, in percent.
        memory: the limit for the resident memory of the process while it measures, in bytes.
        statistics: the file that keeps the statistics; read if it exists.
        reference: the float network that the weights come from, or its path.
        table: a file of another tool with the scales, or statistics, in place of data or before them.
    """

    method: str = AUTO
    percentile: float = DEFAULT_PERCENTILE
    memory: int = DEFAULT_MEMORY
    statistics: Path | None = None
    reference: given.Model | None = None
    table: Path | None = None

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            CalibrationError: the method or the percentile is unknown.
            ModelError: the limit of the memory is not positive, or a percentile is given with another method.
        """
        known = (AUTO, *methods(), NONE)
        if self.method not in known:
            raise CalibrationError(f"there is no calibration method {self.method!r}: write {', '.join(known)}")
        refuse_percentile(self.percentile)
        if self.memory <= 0:
            raise ModelError(f"memory of {self.memory} bytes: give a size above zero, such as 2GiB")
        if self.percentile != DEFAULT_PERCENTILE and self.method != "percentile":
            raise ModelError(f"percentile has no effect on the method {self.method}: choose the method percentile")

    def refuse_idle(self) -> None:
        """Rejects settings that have no effect without data.

        Raises:
            ModelError: one differs from its default.
        """
        stored_ranges = self.table is not None and stored.recognizes(self.table)
        idle = {
            "calibrate": self.method != AUTO and not stored_ranges,
            "reference": self.reference is not None and not stored_ranges,
            "memory": self.memory != DEFAULT_MEMORY,
            "statistics": self.statistics is not None,
        }
        for name in (name for name, given_alone in idle.items() if given_alone):
            raise ModelError(f"{name} has an effect only with data: give --data as well")


def measuring(calibration: Calibration, samples: Samples | None, provider: str, progress: Progress) -> Measure | None:
    """How the repair measures its graph; None if scales come from the graph alone.

    Raises:
        ModelError: the table cannot be read, or has no known format.
    """
    path, data = calibration.table, None if calibration.method == NONE else samples
    if path is not None and stored.recognizes(path):
        if calibration.method == NONE:
            raise ModelError(f"{path}: --calibrate none takes no scales from statistics: give only one of them")
        return partial(_stored, calibration, path)
    table = None if path is None else tables.read(path)
    if data is None:
        return None if table is None else lambda graph: table

    def run(graph: Graph) -> Measured:
        network = network_of(graph.model, graph.folder, calibration.reference)
        found = _statistics(network, data, calibration, _likely(graph, network, calibration.method), provider, progress)
        progress("choosing scales")
        known = {} if calibration.reference is None else network.matched()
        fitted = Fitted(
            found,
            data,
            network.wires,
            calibration.method,
            calibration.percentile,
            provider,
            memory=calibration.memory,
            progress=progress,
            reference=known,
        )
        return fitted if table is None else TableFirst(table, fitted)

    return run


def _stored(calibration: Calibration, path: Path, graph: Graph) -> Measured:
    """Scales from statistics that an earlier run kept."""
    network = network_of(graph.model, graph.folder, calibration.reference)
    return stored.fitted(path, network, calibration.method, calibration.percentile)


def table_notes(calibration: Calibration, model: onnx.ModelProto) -> tuple[str, ...]:
    """Sentences that name the entries of a table without effect: tensors that the model does not have, and ranges that
    are not usable."""
    if calibration.table is None or stored.recognizes(calibration.table):
        return ()  # statistics fit the network by its digest
    known, table = set(tensor_names(model.graph)), tables.read(calibration.table)
    unknown = [name for name in (*table.scales, *table.skipped) if name not in known]
    skipped = [f"{name} ({why})" for name, why in table.skipped.items() if name in known]
    found = {
        f"{counted(len(unknown), 'tensor')} that the model does not have": unknown,
        f"no usable range for {counted(len(skipped), 'tensor')}": skipped,
    }
    return tuple(f"{calibration.table.name} has {what}: {_shown(names)}" for what, names in found.items() if names)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def network_of(model: onnx.ModelProto, folder: Path, reference: given.Model | None) -> FloatModel:
    """The float network of a model, with the weights of a reference, or of the model at its path, if given.

    External data of a reference that is not a path lie in the folder of the model.

    Raises:
        ModelError: as `float_model`; or the reference cannot be read.
    """
    if reference is None:
        return float_model(model, folder)
    proto, place, _ = given.read(reference, folder if isinstance(reference, onnx.ModelProto) else None)
    return float_model(model, folder, reference=proto, reference_folder=place)


def _likely(graph: Graph, network: FloatModel, method: str) -> tuple[str, ...]:
    """The sites whose histograms a repair probably needs: those of the graph's pairs unless the method is max, which
    needs ranges alone, and those outside layers and their activations, whose scales ties may change."""
    paired = set() if method == "max" else {network.tensor(pair.site) for pair in pairs(graph)}
    unlikely = inside(network) - paired
    return tuple(name for name in sites_of(network) if name not in unlikely)


def _statistics(
    network: FloatModel,
    data: Samples,
    calibration: Calibration,
    counted: Sequence[str],
    provider: str,
    progress: Progress,
) -> Statistics:
    """The statistics in the file if it exists, else measured, and kept in the file, with all histograms, if one is
    named.

    Raises:
        CalibrationError: the file is of another network or other samples, or cannot be read or written.
        ModelError: its folder does not exist, or is not writable.
    """
    path = calibration.statistics
    if path is not None and path.exists():
        return Statistics.load(path, network=network.digest, data=data.digest)
    if path is not None:
        refuse_to_overwrite(path, force=False)  # before the work, not after it
    first = counted if path is None else None
    found = measure(network, data, counted=first, memory=calibration.memory, provider=provider, progress=progress)
    if path is not None:
        found.save(path)
    return found

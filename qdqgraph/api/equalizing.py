"""Cross-layer equalization: how a call of `fix` or `quantize` repairs a model with and without it, and which it keeps.

Source of the method: `calibration.equalization.factors`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..calibration.data.samples import Samples
from ..calibration.equalization.equalization import Equalized, equalization
from ..calibration.equalization.links import Link
from ..calibration.halves import Half
from ..errors import CalibrationError, ModelError, counted
from ..graph.graph import Graph
from ..model.corrected import replaced, uncorrected
from ..repair import rounds
from ..repair.corrections import Correction, Improvement, edited
from ..repair.options import Options
from ..repair.repair import Repair, joined
from ..targets.target import Target
from .attempt import Attempt, Repairs
from .correcting import compared
from .measuring import NONE, Calibration, network_of

NAME = "equalization"
LEAST = 4
"""Samples: two to compute the factors on, and two whose gain has a standard error."""

Make = Callable[[Calibration], Attempt]
"""An attempt with another calibration."""


@dataclass(frozen=True)
class Equalizing:
    """The result of a repair with `equalize`.

    Attributes:
        repair: the repair that is kept.
        attempt: what it was made with.
        kept: the model has factors.
        note: a sentence about layers that were left out; "" if there are none.
    """

    repair: Repair
    attempt: Attempt
    kept: bool
    note: str


def refuse_options(options: Options, calibration: Calibration, given: bool) -> None:
    """Rejects what equalization cannot be done with: it changes the ranges of tensors.

    Args:
        options: the settings.
        calibration: how scales are measured.
        given: there are data.

    Raises:
        ModelError: there are no data, or scales are not measured on them.
    """
    if not given:
        raise ModelError(f"{NAME} is computed on samples of the inputs: give data")
    if options.exact:
        raise ModelError(f"{NAME} changes values, and exact repairs do not: ask for one of them")
    if options.keep_scales or calibration.method == NONE or calibration.table is not None:
        raise ModelError(f"{NAME} changes the ranges of tensors, so their scales must be measured: omit the others")


def equalized(
    model: onnx.ModelProto,
    repairs: Repairs,
    make: Make,
    attempt: Attempt,
    samples: Samples,
    calibration: Calibration,
    provider: str,
) -> Equalizing:
    """Repairs a model with and without equalization, and keeps it only if the outputs get better on held-back samples
    by more than the standard error of the gain.

    A float network is equalized before it is quantized, a Q/DQ graph after its repair, which is then made once more:
    with measured scales that fit the new ranges.

    Args:
        model: the model; it is not modified.
        repairs: `rounds.fix` or `rounds.quantize`.
        make: an attempt with another calibration.
        attempt: the attempt without equalization.
        samples: every second one gives the factors, the others judge.
        calibration: how scales are measured.
        provider: "cpu" or "cuda".

    Raises:
        CalibrationError: there are too few samples.
        ModelError, RepairError: as the repairs.
    """
    if len(samples) < LEAST:
        raise CalibrationError(
            f"{NAME} needs {LEAST} samples or more, because its gain on one half must exceed the standard error; "
            f"the data have {len(samples)}"
        )
    given, held = Half.both(samples)
    floats = repairs is rounds.quantize
    before = attempt.plain.repair(model, repairs)
    base = before.start if floats else uncorrected(before.model, attempt.folder)
    graph = Graph(base, attempt.folder, target=Target.named(attempt.options.target))
    found = _factors(graph, floats, given, calibration, attempt, provider)
    note = _unknown(found)
    if not found.moved:
        done = Correction(NAME, found.examined, (), None, "layer pair")
        return Equalizing(_finished(model, repairs, attempt, before, done), attempt, False, note)
    changed = _applied(graph, found)
    own = calibration.reference
    if floats:
        own = changed
    elif own is not None:
        own = _constants(found)
    other = make(replace(calibration, statistics=None, reference=own))
    after = other.plain.repair(changed, repairs)
    attempt.progress(f"{NAME}: comparing outputs")
    judging = replace(calibration, reference=base) if floats else calibration
    start = before.model if floats or attempt.corrections is None else base
    gain = compared(_graph(graph, start), _graph(graph, after.model), judging, held, provider, strict=True)
    done = Correction(NAME, found.examined, _improvements(found), gain, "layer pair")
    if not done.kept:
        return Equalizing(_finished(model, repairs, attempt, before, done), attempt, False, note)
    final = _finished(changed, repairs, other, after, done)
    return Equalizing(joined(model, before, final, floats=floats), other, True, note)


def _factors(
    graph: Graph, floats: bool, given: Half, calibration: Calibration, attempt: Attempt, provider: str
) -> Equalized:
    network = network_of(graph.model, graph.folder, None if floats else calibration.reference)
    known = {} if floats or calibration.reference is None else network.matched()

    def wanted(link: Link) -> bool:
        layers, skip = (link.first, link.second), replace(attempt.options, only=())
        chosen = all(attempt.options.selects(each.key, str(each.node.name)) for each in layers)
        return chosen and all(skip.selects(name) for name in link.tensors)

    return equalization(
        graph,
        network,
        known,
        given,
        memory=calibration.memory,
        wanted=wanted,
        provider=provider,
        progress=attempt.progress,
    )


def _applied(graph: Graph, found: Equalized) -> onnx.ModelProto:
    """The model with the factors."""
    changed = _graph(graph, replaced(graph.model, found.constants, graph.folder))
    return edited(changed, {layer: (edit,) for layer, edit in found.edits.items()}).model


def _graph(graph: Graph, model: onnx.ModelProto) -> Graph:
    return Graph(model, graph.folder, target=graph.target)


def _constants(found: Equalized) -> onnx.ModelProto:
    """A model that has the reference's weights with their factors, and nothing else."""
    weights = [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in found.reference.items()]
    return helper.make_model(helper.make_graph([], "reference", [], [], weights))


def _improvements(found: Equalized) -> tuple[Improvement, ...]:
    return tuple(
        Improvement(each.link.second.key, {}, each.factors.before, each.factors.after, upstream=each.link.first.key)
        for each in found.moved
    )


def _unknown(found: Equalized) -> str:
    if not found.unknown:
        return ""
    pairs = counted(found.unknown, "layer pair")
    return f"{NAME} left out {pairs}: the file has their weights as integers only; give the float network as reference"


def _finished(model: onnx.ModelProto, repairs: Repairs, attempt: Attempt, repair: Repair, done: Correction) -> Repair:
    """The repair with its corrections."""
    final = repair if attempt.is_plain else attempt.repair(model, repairs)
    return replace(final, corrections=(done, *final.corrections))

"""The starts of a search: a model repaired in several ways, each with its graph with switches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx.inliner

from ..calibration.data.samples import Samples
from ..calibration.layers.switched import sets_of, switched
from ..calibration.sizes import sized, sizes_in
from ..calibration.statistics.floating import FloatModel
from ..calibration.statistics.measure import measure
from ..calibration.statistics.statistics import Statistics
from ..engines.timing.roofline import Roofline
from ..errors import CalibrationError
from ..graph.graph import Graph
from ..model.content import content
from ..model.writing.folders import temporary_folder
from ..repair import rounds
from ..repair.gate import is_float
from ..repair.options import Options
from ..report.results import Result
from ..rulekit.rule import Rule, handled
from ..search.decisions import shared, space
from ..search.start import Start
from ..targets.target import Target
from ..verify.scores import Evaluate
from ..verify.sensitivity.measure import Measuring
from ..verify.sensitivity.units import units
from .given import Model, Progress
from .measuring import network_of
from .quantizing import quantize
from .repairs import fix

WIDE_GUARD = 6.0
"""Bits: the guard of the start that takes more ties than `fix` does."""
BASE, CORRECTED = "fix", "corrections"
WIDE = f"wide guard, {CORRECTED}"


@dataclass(frozen=True)
class Asked:
    """What starts are made from.

    Attributes:
        model: the model, or its path.
        proto: the same, read.
        source: its path, or the name that messages have for it.
        folder: where external data lie.
        rules: the rules to repair by.
        options: the settings of the repair.
        samples: the data.
        reference: the float network, or None.
        evaluate: scores a network; None for none.
        provider: "cpu" or "cuda".
        memory: the limit for the memory while scales are measured, in bytes.
        roofline: estimates times.
        floats: the precision of what runs in floating point.
        progress: called with one line before each step.
    """

    model: Model
    proto: onnx.ModelProto
    source: Path
    folder: Path
    rules: Sequence[Rule]
    options: Options
    samples: Samples
    reference: Model | None
    evaluate: Evaluate | None
    provider: str
    memory: int
    roofline: Roofline
    floats: str
    progress: Progress


@dataclass(frozen=True, eq=False)
class Repaired:
    """A start, and the repair that it is the result of."""

    start: Start
    result: Result
    statistics: Statistics
    names: dict[str, str]


@contextmanager
def starting(asked: Asked) -> Iterator[tuple[Repaired, ...]]:
    """The starts: the model as `fix` (or, if it is a float model, `quantize`) repairs it, with corrections, and, if
    these leave a tie, with a wider guard. One that is the same as an earlier one is left out.

    Raises:
        ModelError, RuleError, RepairError, CalibrationError: as `fix`.
    """
    target, keeps = Target.named(asked.options.target), handled(asked.rules)
    floats = is_float(Graph.opened(asked.proto, asked.folder, target=target, keeps=keeps), asked.rules)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        found: dict[str, Repaired] = {}
        for name, options in _variants(asked.options).items():
            if name == WIDE and not any(finding.tie for each in found.values() for finding in each.result.left):
                continue
            asked.progress(f"{name}: repairing")
            kept = folder / "statistics.npz"
            result = _result(asked, options, kept, floats=floats)
            digest = content(result.model, asked.folder)
            if digest not in found:
                found[digest] = stack.enter_context(_opened(asked, name, result, kept, floats=floats))
        yield tuple(found.values())


def _variants(options: Options) -> dict[str, Options]:
    """The settings of each start: as asked, and with all corrections that these allow, which cost no time."""
    if options.exact:
        return {BASE: options}
    better = replace(
        options,
        bias_correction=True,
        round_weights=options.round_weights or options.weights is None,
        equalize=not options.keep_scales,
    )
    found = {BASE: options, CORRECTED: better}
    if options.max_bits_lost is None:
        found[WIDE] = replace(better, max_bits_lost=WIDE_GUARD)
    return found


def _result(asked: Asked, options: Options, statistics: Path, *, floats: bool) -> Result:
    repair = quantize if floats else partial(fix, reference=asked.reference)
    return repair(
        asked.model,
        asked.rules,
        options,
        data=asked.samples,
        folder=asked.folder,
        statistics=statistics,
        memory=asked.memory,
        provider=asked.provider,
    )


@contextmanager
def _opened(asked: Asked, name: str, result: Result, kept: Path, *, floats: bool) -> Iterator[Repaired]:
    asked.progress(f"{name}: making the graph with switches")
    target = Target.named(asked.options.target)
    graph = Graph(result.model, asked.folder, target=target)
    if graph.model.functions:
        graph = Graph(onnx.inliner.inline_local_functions(graph.model), asked.folder, target=target)
    reference = asked.model if asked.reference is None and floats else asked.reference
    network = network_of(graph.model, asked.folder, reference)
    statistics = _statistics(asked, network, kept)
    shaped = Graph(with_shapes(graph.model, asked), asked.folder, target=target)
    groups = rounds.examined(graph, asked.rules, asked.options)[0]
    parts = units(graph, "block", groups)
    decided = space(shaped, parts, groups, statistics, network.wires)
    free = {site for sites in shared(graph, groups) for site in sites}
    built = switched(graph, network, sets_of(part.layers for part in parts), free)
    asked.progress(f"{name}: running the float network")
    with Measuring(built, asked.samples, asked.folder, asked.evaluate, asked.provider) as measuring:
        start = Start(name, graph, shaped, decided, built, measuring, asked.roofline, asked.floats, network.model)
        yield Repaired(start, result, statistics, dict(network.wires))


def with_shapes(model: onnx.ModelProto, asked: Asked) -> onnx.ModelProto:
    """A model with the shapes of the samples: what has dynamic shapes has no bytes, and would cost nothing."""
    return sized(model, sizes_in(model, next(iter(asked.samples))))


def _statistics(asked: Asked, network: FloatModel, kept: Path) -> Statistics:
    """The statistics that the repair kept, if they have the network's sites; else measured again."""
    try:
        return Statistics.load(kept, network=network.digest, data=asked.samples.digest)
    except CalibrationError:
        asked.progress("measuring ranges")
        return measure(network, asked.samples, memory=asked.memory, provider=asked.provider)

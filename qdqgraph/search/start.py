"""`Start`: a repaired model whose decisions are measured: quality by a graph with switches, cost by the forecast."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
import onnx

from ..calibration.layers.switched import Switched
from ..engines.forecast.forecast import fused
from ..engines.timing.roofline import Roofline
from ..graph.graph import Graph, key
from ..graph.pair import pairs
from ..proposals.proposal import Constant, SetPair
from ..repair.corrections import edited, released
from ..repair.rounds import stripped
from ..verify.sensitivity.levels import Level, Sampled
from ..verify.sensitivity.measure import Measuring
from .decisions import APART, FLOAT, Candidate, Decision, Space
from .found import Found, How

SEARCHED, HELD = 0, 1
"""The halves of the samples: what the search sees, and what judges its result."""
PARTS = 2


class Start:
    """A repaired model.

    Args:
        name: how reports name it.
        graph: the model.
        shaped: the same with the shapes of the samples, by which its time is estimated.
        space: what may be decided.
        built: its graph with switches: the units of the space, in order, and the sites of its scales.
        measuring: runs this graph; open.
        roofline: estimates the time of a forecast.
        floats: the precision of kernels in floating point, as `timing.work.works`.
        float_model: the float network.
    """

    def __init__(
        self,
        name: str,
        graph: Graph,
        shaped: Graph,
        space: Space,
        built: Switched,
        measuring: Measuring,
        roofline: Roofline,
        floats: str,
        float_model: onnx.ModelProto,
    ) -> None:
        self.name, self.graph, self.shaped, self.space = name, graph, shaped, space
        self.built, self.measuring = built, measuring
        self.roofline, self.floats, self.float_model = roofline, floats, float_model
        self._index = {unit: index for index, unit in enumerate(space.units)}
        self._costs: dict[Candidate, tuple[float, int]] = {}

    def found(self, candidate: Candidate, how: How) -> Found:
        """Measures a candidate of this start.

        Args:
            candidate: the candidate; to measure it alone, with decisions about scales only.
            how: what of it.
        """
        ms, moved = self._cost(candidate)
        decisions, held = candidate.decisions, how == How.BOTH
        if how == How.ALONE:
            switches = self.built.alone(self.space.sites_of(decisions))
        else:
            switches = self.built.off(*(self._index[d.subject] for d in decisions if d.option == FLOAT))
        known = self._known(self.space.scaled(decisions))
        parts = (SEARCHED, HELD) if held else (SEARCHED,)
        levels, before = self.measuring.measured({**switches, **known}, PARTS, parts, score=held)
        return Found(ms, moved, levels[SEARCHED], levels[HELD] if held else None, before)

    def made(self, candidate: Candidate) -> Graph:
        """The model of a candidate."""
        return self._made(self.graph, candidate)

    def _made(self, graph: Graph, candidate: Candidate) -> Graph:
        if scales := {s: v for s, v in self.space.scaled(candidate.decisions).items() if s in self.built.scales}:
            graph = edited(graph, {site: tuple(_set(graph, site, value)) for site, value in scales.items()})
        layers = self.space.layers(candidate.decisions)
        return released(stripped(graph, tuple(map(glob.escape, layers)))) if layers else graph

    def scaled(self, scales: Mapping[str, float]) -> Level:
        """The quality on the samples of the search with other scales of sites."""
        feed = self.built.off() | self._known(scales)
        return self.measuring.levels(feed, PARTS, (SEARCHED,), score=False)[SEARCHED]

    def run(self, graph: Graph) -> tuple[Sampled, ...]:
        """The quality of a model as it is, without switches, on both halves of the samples."""
        return self.measuring.of(graph.model, graph.folder, PARTS)

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions of the space that have a switch or an input in the graph."""
        return tuple(
            d for d in self.space.decisions() if d.option == FLOAT or {*self.space.scaled([d])} & {*self.built.scales}
        )

    def _cost(self, candidate: Candidate) -> tuple[float, int]:
        """Milliseconds and bytes; scales that sites still share change neither."""
        moving = tuple(d for d in candidate.decisions if d.option in (FLOAT, APART))
        same = Candidate(candidate.start, moving)
        if same not in self._costs:
            graph = self._made(self.shaped, same)
            engine = fused(graph, self.name)
            self._costs[same] = self.roofline.estimate(engine, graph, self.floats).ms, engine.bytes
        return self._costs[same]

    def _known(self, scales: Mapping[str, float]) -> dict[str, np.ndarray]:
        """The inputs of scales that are inputs."""
        return self.built.scaled({site: scale for site, scale in scales.items() if site in self.built.scales})


def _set(graph: Graph, site: str, scale: float) -> Iterable[SetPair]:
    """The edits that give the pairs of a site another scale."""
    for pair in pairs(graph).at(site):
        if pair.kind == "activation" and pair.scale is not None and pair.zero_point is not None:
            new = pair.scale.dtype.type(scale)
            nodes = tuple(key(node) for node in pair.nodes)
            yield SetPair(nodes, Constant.of(np.array(new)), Constant.of(pair.zero_point))

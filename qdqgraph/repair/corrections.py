"""`Corrections`: steps that change constants of the repaired graph so that its layers are nearer to the float network.

Weights, biases and their like are corrected after all repairs, step by step. Each step proposes values for its layers,
and is kept if it pays at the outputs, on samples that nothing was computed from. What computes and judges runs the
network; it is not on the floor of this module (`api.correcting`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx

from ..graph.graph import Graph
from ..graph.pair import is_pair, pairs
from ..log import Progress
from ..model.content import same
from ..model.corrected import Place, corrected, uncorrected
from ..proposals.proposal import Proposal
from ..rulekit.finding import Finding, Safety, Severity
from .carry_out import carry_out
from .options import Options
from .solution import Solution


@dataclass(frozen=True, eq=False)
class Improvement:
    """New constants of one layer, and its error on the held-back samples.

    Attributes:
        layer: the key of the layer.
        constants: the new values by node input, in the type of the old ones, whose originals the metadata keep.
        before, after: the SQNR of the layer alone in dB; as expected from ranges if there is a layer `upstream`.
        edits: changes whose originals would be too large for the metadata, such as weights.
        upstream: the key of the layer whose outputs have factors that this one takes back; "" if there is none.
    """

    layer: str
    constants: Mapping[Place, np.ndarray]
    before: float
    after: float
    edits: tuple[Proposal, ...] = ()
    upstream: str = ""


@dataclass(frozen=True)
class Proposed:
    """What a step proposes: the number of layers that it examined, and those that it improves."""

    examined: int
    layers: tuple[Improvement, ...]


@dataclass(frozen=True)
class Gain:
    """The SQNR of the outputs on the held-back samples, in dB: the mean over outputs and samples.

    Attributes:
        before, after: without and with a step.
        noise: the standard error of the difference over the samples; 0 with one sample.
        strict: the step pays only if the outputs get better by more than the noise.
    """

    before: float
    after: float
    noise: float
    strict: bool = False

    @property
    def pays(self) -> bool:
        """Whether the outputs did not get worse by more than the noise; of a strict step, whether they got better by
        more than it."""
        change = self.after - self.before
        return change > self.noise if self.strict else change + self.noise >= 0


Propose: TypeAlias = Callable[[Graph], Proposed]
"""Proposes constants for a graph, from the graph as the steps before it left it."""


@dataclass(frozen=True)
class Corrections:
    """What runs after all repairs.

    Attributes:
        steps: names and proposals, in order.
        gain: compares the outputs of two graphs, without and with a step.
    """

    steps: Sequence[tuple[str, Propose]]
    gain: Callable[[Graph, Graph], Gain]


@dataclass(frozen=True)
class Correction:
    """The result of one step.

    Attributes:
        name: the step.
        examined: the number of layers that it could have corrected.
        layers: the layers that it corrected, or would have corrected.
        gain: what it changes at the outputs; None if it corrected no layer.
        noun: what it examined and corrected: "layer", or "pair of layers" as "layer pair".
    """

    name: str
    examined: int
    layers: tuple[Improvement, ...]
    gain: Gain | None
    noun: str = "layer"

    @property
    def kept(self) -> bool:
        """Whether the repaired model has these constants."""
        return self.gain is not None and self.gain.pays


def correct(
    graph: Graph, corrections: Corrections, options: Options, progress: Progress
) -> tuple[Graph, tuple[Correction, ...]]:
    """Runs the steps on a repaired graph, from its original constants; returns the new graph and what each step did.

    A graph that already has these constants is returned as it is.

    Raises:
        CalibrationError, ModelError: as the steps do.
    """
    now, done = _with(graph, uncorrected(graph.model, graph.folder)), []
    for name, propose in corrections.steps:
        progress(f"{name}: computing")
        found = propose(now)
        layers = tuple(c for c in found.layers if options.selects(c.layer, str(now.node(c.layer).name)))
        constants = {place: array for layer in layers for place, array in layer.constants.items()}
        after = _with(now, corrected(now.model, constants, now.folder)) if constants else now
        after = edited(after, {layer.layer: layer.edits for layer in layers})
        if after is not now:
            progress(f"{name}: comparing outputs")
        done.append(Correction(name, found.examined, layers, None if after is now else corrections.gain(now, after)))
        now = after if done[-1].kept else now
    return graph if same(graph.model, now.model, graph.folder) else now, tuple(done)


def edited(graph: Graph, edits: Mapping[str, Sequence[Proposal]]) -> Graph:
    """The graph with edits, which are given by the key of a layer; the graph itself if there are none."""
    asked = [
        Finding("correct", "correct", Severity.WARNING, Safety.LOSSY, layer, layer, "", "", edits=tuple(mine))
        for layer, mine in edits.items()
        if mine
    ]
    model, _ = carry_out(graph, Solution((), (), ()), asked, exact=True)
    return _with(graph, model)


def released(graph: Graph) -> Graph:
    """The graph with the original constants where a correction has lost its reason: no pair reads its layer's inputs.

    Raises:
        ModelError: as `uncorrected`.
    """

    def unquantized(place: Place) -> bool:
        node = graph.node(place[0])
        before = [node, *(p for t in node.inputs if node.op == "Add" and (p := graph.producer(t.name)) is not None)]
        made = [pairs(graph).made(t.name) for n in before for t in n.inputs]
        return not is_pair(node) and not any(pair is not None and pair.kind == "activation" for pair in made)

    return _with(graph, uncorrected(graph.model, graph.folder, unquantized))


def _with(graph: Graph, model: onnx.ModelProto) -> Graph:
    return graph if model is graph.model else Graph(model, graph.folder, target=graph.target)

"""`equalization`: the links of a network that gain by factors, and their constants with these factors.

The network without quantization stays the same, bit for bit: factors are powers of two, what is divided in one layer is
multiplied in the next one, and the operators in between are homogeneous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...graph.graph import Graph, input_name
from ...graph.pair import pairs
from ...log import Progress, log_step
from ...model.corrected import Place
from ...model.runtime import Feeds
from ...proposals.proposal import SetPair
from ..layers.twin import activation_pair
from ..statistics.floating import FloatModel
from .channels import measured
from .factors import Factors, factors
from .links import Layer, Link, links
from .stored import Stored


@dataclass(frozen=True, eq=False)
class Moved:
    """A link and its factors."""

    link: Link
    factors: Factors


@dataclass(frozen=True, eq=False)
class Equalized:
    """What equalization changes in a graph.

    Attributes:
        examined: the number of links that could have factors.
        unknown: links that could not, because the file has the second layer's weights as integers only.
        moved: those that gain by factors, in file order.
        constants: new floats by node input.
        edits: new parameters of weight pairs, by the key of the layer.
        reference: weights before quantization, as they were given, with the factors.
    """

    examined: int
    unknown: int
    moved: tuple[Moved, ...]
    constants: Mapping[Place, np.ndarray]
    edits: Mapping[str, SetPair]
    reference: Mapping[str, np.ndarray]


def equalization(
    graph: Graph,
    network: FloatModel,
    reference: Mapping[str, np.ndarray],
    feeds: Feeds,
    *,
    memory: int,
    wanted: Callable[[Link], bool] = lambda link: True,
    provider: str = "cpu",
    progress: Progress = log_step,
) -> Equalized:
    """The factors between the layers of a graph, and what they change.

    Args:
        graph: a graph with pairs, whose second layers read their input through one; or a float network.
        network: the network without pairs.
        reference: values before quantization, by the output of the DequantizeLinear of stored integers.
        feeds: the samples.
        memory: the limit for the peak resident memory of the process, in bytes.
        wanted: chooses links.
        provider: "cpu" or "cuda".
        progress: called with one line before each sample.

    Raises:
        ModelError: as `channels.measured`.
    """
    floats = Graph(network.model, network.folder)
    ways = _Ways(graph, reference)
    found = [link for link in links(floats) if wanted(link) and ways.quantized(link) and ways.stored(link)]
    able = [link for link in found if ways.takes(link, _uneven(link))]
    moved: list[Moved] = []
    if able:
        tensors = list(dict.fromkeys(link.tensor for link in able))
        seen = measured(network, tensors, feeds, memory=memory, provider=provider, progress=progress)
        for link in able:
            weights = floats.array(input_name(link.second.node, 1))
            if weights is None or link.tensor not in seen:
                continue
            best = factors(link.second.blocks(weights), seen[link.tensor])
            if best is not None and ways.takes(link, best.values):
                ways.move(link, best.values)
                moved.append(Moved(link, best))
    constants, edits, known = ways.result()
    unknown = sum(ways.unknown(link) for link in found)
    return Equalized(len(able), unknown, tuple(moved), constants, edits, {**reference, **known})


class _Ways:
    """The layers of a graph, and their factors so far."""

    def __init__(self, graph: Graph, reference: Mapping[str, np.ndarray]) -> None:
        self.graph, self.reference = graph, reference
        self._stored: dict[str, Stored | None] = {}
        self._factors: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def quantized(self, link: Link) -> bool:
        """Whether the second layer reads its input through a pair; any layer of a float network."""
        node = self.graph.producer(link.second.key)
        return not len(pairs(self.graph)) or (
            node is not None and activation_pair(self.graph, input_name(node, 0)) is not None
        )

    def stored(self, link: Link) -> bool:
        """Whether the constants of both layers can be replaced, but for integers of unknown origin."""
        first, second = self._of(link.first), self._of(link.second)
        return first is not None and second is not None and first.movable

    def takes(self, link: Link, values: np.ndarray) -> bool:
        """Whether both layers can have these factors, beside those that they have."""
        first, second = self._of(link.first), self._of(link.second)
        if first is None or second is None:
            return False
        (into, _), (_, out) = self._now(link.first), self._now(link.second)
        return first.takes(into, 1 / values) and second.takes(values, out)

    def unknown(self, link: Link) -> bool:
        """Whether the second layer cannot have factors because its weights before quantization are unknown."""
        second = self._of(link.second)
        return second is not None and second.reals is None and not self.takes(link, _uneven(link))

    def move(self, link: Link, values: np.ndarray) -> None:
        """Gives both layers factors."""
        self._factors[link.first.key] = self._now(link.first)[0], 1 / values
        self._factors[link.second.key] = values, self._now(link.second)[1]

    def result(self) -> tuple[dict[Place, np.ndarray], dict[str, SetPair], dict[str, np.ndarray]]:
        """New floats by node input, new parameters of pairs by layer, and new weights of the reference."""
        constants: dict[Place, np.ndarray] = {}
        edits: dict[str, SetPair] = {}
        known: dict[str, np.ndarray] = {}
        for name, (into, out) in self._factors.items():
            stored = self._stored[name]
            assert stored is not None
            more, edit, reals = stored.scaled(self.graph, into, out)
            constants.update(more)
            if edit is not None:
                edits[name] = edit
            weights = input_name(stored.layer.node, 1)
            if weights in self.reference and reals is not None:
                known[weights] = reals
        return constants, edits, known

    def _of(self, layer: Layer) -> Stored | None:
        if layer.key not in self._stored:
            self._stored[layer.key] = Stored.of(self.graph, layer, self.reference)
        return self._stored[layer.key]

    def _now(self, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
        return self._factors.get(layer.key, (np.ones(layer.inputs), np.ones(layer.outputs)))


def _uneven(link: Link) -> np.ndarray:
    """Factors that differ from channel to channel."""
    return np.exp2(-(np.arange(link.second.inputs) % 2.0))

"""`Start`: the graph that a repair starts with: the given model with its local functions inlined, in an opset that can
express the repair. Both changes keep every value; a plan contains them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx

from ..errors import ModelError
from ..graph.casts import has_half
from ..graph.graph import Graph, label
from ..graph.pair import PER_CHANNEL, pairs, required_opset
from ..model.opset import raised
from ..model.protos import version
from ..operators import PAIRS
from ..proposals.opset import node_faults, written_for
from ..rulekit.rule import Rule
from ..targets.target import Target
from .draft import distinct
from .gate import opened, unquantized
from .reals import HALF_SCALES


@dataclass(frozen=True)
class OpsetRaise:
    """A raised opset: the versions before and after, and the reason."""

    before: int
    after: int
    why: str


@dataclass(frozen=True)
class Start:
    """The graph before the first round, and what differs from the given model.

    Attributes:
        graph: the graph; its `functions` are those that were inlined.
        opset: the raised opset; None if it is the given one.
        given: the graph in the opset of the file; None if that is `graph`.
    """

    graph: Graph
    opset: OpsetRaise | None = None
    given: Graph | None = None

    @cached_property
    def pairs(self) -> frozenset[str]:
        """The keys of the graph's activation pairs."""
        return frozenset(pair.key for pair in pairs(self.graph) if pair.kind == "activation")

    @classmethod
    def of(
        cls, model: onnx.ModelProto, rules: Sequence[Rule], target: str, folder: Path | None, *, floats: bool = False
    ) -> Start:
        """The start of a repair of `model`, which is not modified; with `floats` of the quantization of a float model.

        Raises:
            ModelError: the model has no Q/DQ, or with `floats` has some; it cannot be imported; a function or a node
                cannot be converted.
        """
        view = unquantized if floats else opened
        return cls.at(view(distinct(model), rules, Target.named(target), folder), version(model), rules, floats=floats)

    @classmethod
    def at(cls, graph: Graph, before: int, rules: Sequence[Rule], *, floats: bool = False) -> Start:
        """The start of a repair of a graph whose file has the opset `before`.

        Raises:
            ModelError: a function or a node cannot be converted.
        """
        given, functions = graph, graph.functions
        why = "its local functions are of that opset"
        least, reason = _most(_first_pairs(graph) if floats else _needed(graph, rules))
        if graph.opset < least:
            graph, why = _raised(graph, least), reason
        if (later := _valid(graph)) is not None:
            graph, why = later
        graph.functions = functions
        change = OpsetRaise(before, graph.opset, why) if before < graph.opset else None
        return cls(graph, change, None if given is graph else given)

    def enough(self, final: Graph, before: int, rules: Sequence[Rule]) -> Start:
        """The start of a repair whose result can be written in its opset: this one, or a later one if its
        result `final` has pairs that need it, for example of INT4 weights that no pair contained.

        Raises:
            ModelError: a node cannot be converted.
        """
        least, why = (0, "") if final is self.graph else _most(_needed(final, rules))
        if final.opset >= least:
            return self
        graph = _raised(self.graph, least)
        graph.functions = self.graph.functions
        return Start(graph, OpsetRaise(before, graph.opset, why), self.given or self.graph)


def _most(needs: Iterable[tuple[int, str]]) -> tuple[int, str]:
    """The latest of the opsets that something needs, with its reason; 0 if nothing needs one."""
    return max(needs, key=lambda need: need[0], default=(0, ""))


def _raised(graph: Graph, opset: int) -> Graph:
    return Graph(raised(graph.model, opset), graph.folder, target=graph.target)


def _valid(graph: Graph) -> tuple[Graph, str] | None:
    """Returns the graph in the opset that nodes of a later form are written for, and the reason.

    None if there are no such nodes, the target does not support that opset, or a node cannot be converted.
    """
    later = [(own, node) for node in map(graph.node, node_faults(graph)) if (own := written_for(graph, node))]
    least, node = max(later, key=lambda need: need[0], default=(0, None))
    if node is None or not graph.opset < least <= graph.target.opset:
        return None
    try:
        return _raised(graph, least), f"the {node.op} '{label(node)}' is written for opset {least}"
    except ModelError:
        return None


def _first_pairs(graph: Graph) -> Iterator[tuple[int, str]]:
    """Yields the opsets that the pairs of a float graph need, each with the reason."""
    yield PER_CHANNEL, f"scales per output channel need opset {PER_CHANNEL}"
    if has_half(graph.model) and graph.target.opset >= HALF_SCALES:
        yield HALF_SCALES, f"pairs of half-precision tensors need opset {HALF_SCALES}"


def _needed(graph: Graph, rules: Sequence[Rule]) -> Iterator[tuple[int, str]]:
    """Yields the opsets in which everything quantized can be written as pairs, each with the reason."""
    for node in graph.nodes():
        if node.op in PAIRS and (least := required_opset(graph, node)):
            yield least, f"the {node.op} '{label(node)}' needs opset {least}"
    for rule in rules:
        if nodes := rule.quantized_nodes(graph):
            yield (
                rule.opset,
                f"{rule.code} replaces the {nodes[0].op} '{label(nodes[0])}' by nodes of opset {rule.opset}",
            )

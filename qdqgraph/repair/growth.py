"""Stops a rule whose repairs make work for itself: each round would be larger than the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..errors import RepairError
from ..graph.graph import Graph
from ..proposals.proposal import Graft
from ..rulekit.finding import Finding

NEW_BASE, NEW_PER_NODE = 1_000, 10
"""A rule may write this many new nodes in the rounds of a stage, and this many more for each node of the graph."""
OWN_ROUNDS = 6
"""The limit of rounds in which a rule replaces nodes that it wrote in an earlier round."""


class Growth:
    """What the rules write in the rounds of one stage.

    Args:
        graph: the graph before the first round.
    """

    def __init__(self, graph: Graph) -> None:
        self.nodes = len(graph.nodes())
        self.new = Counter[str]()
        self.own = Counter[str]()

    def note(self, graph: Graph, applied: Iterable[Finding]) -> None:
        """Counts the repairs of a round.

        Args:
            graph: the graph before the round.
            applied: the repairs.

        Raises:
            RepairError: a rule wrote too many nodes, or keeps replacing its own (QDQ906).
        """
        again: set[str] = set()
        for finding in applied:
            for edit in (e for e in finding.edits if isinstance(e, Graft)):
                self.new[finding.code] += len(edit.new)
                if any(_written_by(graph, name, finding.code) for name in edit.replaced):
                    again.add(finding.code)
        self.own.update(again)
        most = NEW_BASE + NEW_PER_NODE * self.nodes
        for code, count in self.new.items():
            if count > most:
                raise RepairError(
                    f"QDQ906: rule {code} was stopped: it wrote {count:,} new nodes in a graph of {self.nodes:,}; "
                    "its repair must not make new work for the rule"
                )
        for code, count in self.own.items():
            if count > OWN_ROUNDS:
                raise RepairError(
                    f"QDQ906: rule {code} was stopped: in {count} rounds it replaced nodes that it had written itself; "
                    "it must report nothing in its own repair"
                )


def _written_by(graph: Graph, name: str, code: str) -> bool:
    """Returns whether a rule wrote the node that produces a tensor."""
    node = graph.producer(name)
    marks = () if node is None else graph.proto(node).metadata_props
    return any(mark.key == "qdqgraph.rule" and mark.value == code for mark in marks)

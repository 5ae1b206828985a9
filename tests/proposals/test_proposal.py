"""Proposals that the model cannot take are the rule author's mistake, and said as one."""

from collections.abc import Iterator

import pytest

import qdqgraph
from qdqgraph import Finding, RuleError, Safety
from qdqgraph.rulekit import Graph, PlacePair, Rule
from tests.support.models import build


def test_a_rule_that_places_a_pair_at_a_captured_tensor_is_stopped() -> None:
    class Captures(Rule):
        """What reads a tensor should read its pair: this rule forgets that a subgraph has no input for it."""

        code, name, safety = "MY201", "captures", Safety.LOSSY

        def find(self, graph: Graph) -> Iterator[Finding]:
            readers = tuple(r.key for r in graph.readers("p") if r.node.op == "If")
            yield self.finding(graph.node("p"), "bare", help="pair", edits=[PlacePair("p", readers)])

    model = build(
        """g (float[1,4,8,8] x, bool t) => (float[1,4,8,8] y, float[1,4,8,8] o) {
            p = Relu (x)  y = t.conv4 (p, s1)
            o = If <then_branch = yes () => (float[1,4,8,8] a) { a = Relu (p) },
                    else_branch = no () => (float[1,4,8,8] b) { b = Neg (p) }> (t) }"""
    )
    with pytest.raises(RuleError, match=r"'o' \(If\) has no input -1: a subgraph captures the tensor"):
        qdqgraph.fix(model, [Captures()])

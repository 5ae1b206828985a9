"""A rule that never ends, or that makes work for itself, is stopped within seconds, with a sentence."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph import Finding, Options, QdqgraphError, Safety
from qdqgraph.cli.main import main
from qdqgraph.rulekit import Counterexample, Example, Graph, Node, Rule, attributes, key, make_node, replace
from tests.support.models import CONCAT, build

TEXT = """g (float[2] x) => (float[2] y) {
    q = QuantizeLinear (x, s1) d = DequantizeLinear (q, s1) n = Neg (d) y = Abs (n) }"""
Find = Callable[[Rule, Graph], Iterator[Finding]]


def forever(self: Rule, graph: Graph) -> Iterator[Finding]:
    while graph:
        pass
    yield from ()


def forever_in_a_helper(self: Rule, graph: Graph) -> Iterator[Finding]:
    for number in itertools.count():
        if number < 0:
            yield self.finding(graph.nodes()[0], "never")


def without_end(self: Rule, graph: Graph) -> Iterator[Finding]:
    while True:
        yield self.finding(graph.nodes()[0], "again")


def doubles(self: Rule, graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes("Neg"):
        new = [
            make_node("Neg", [node.inputs[0].name], "a"),
            make_node("Neg", ["a"], "b"),
            make_node("Neg", ["b"], key(node)),
        ]
        yield self.finding(node, "three are better than one", edits=[replace([node], new)])


def swaps(self: Rule, graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes("Neg", "Abs"):
        other = "Abs" if node.op == "Neg" else "Neg"
        new = make_node(other, [node.inputs[0].name], key(node), attributes(graph, node))
        yield self.finding(node, "the other one", edits=[replace([node], [new])])


def large(self: Rule, graph: Graph) -> Iterator[Finding]:
    node: Node = graph.nodes("Neg")[0]
    names = [node.inputs[0].name, *(f"t{i}" for i in range(20_000)), key(node)]
    yield self.finding(
        node, "long", edits=[replace([node], [make_node("Neg", [a], b) for a, b in itertools.pairwise(names)])]
    )


@pytest.mark.parametrize(
    ("find", "said"),
    [
        (forever, "was stopped after 2 seconds in one scan of 4 nodes"),
        (forever_in_a_helper, "was stopped after 2 seconds in one scan of 4 nodes"),
        (without_end, "it was stopped after 10,401 findings and edits"),
        (doubles, "rule MY201 was stopped: "),
        (swaps, "rule MY201 was stopped: in 7 rounds it replaced nodes that it had written itself"),
        (large, "it was stopped after 20,003 findings and edits in one scan of 4 nodes"),
    ],
)
def test_a_runaway_rule_is_stopped(find: Find, said: str) -> None:
    body = {"find": find, "seconds": 2.0, "code": "MY201", "name": "r", "safety": Safety.LOSSY, "file": Path(__file__)}
    rule = type("Runaway", (Rule,), {**body, "examples": [Example("a", ""), Counterexample("b", "")]})()
    start = time.monotonic()
    with pytest.raises(QdqgraphError) as error:
        qdqgraph.fix(build(TEXT), [rule], Options(also=("MY201",)))
    assert said in str(error.value)
    assert time.monotonic() - start < 10


def test_rules_have_a_limit_of_less_than_ten_seconds_and_built_in_ones_have_none() -> None:
    assert Rule.seconds < 10
    assert all(math.isinf(rule.seconds) for rule in qdqgraph.rules(installed=False))


def test_profile_rules_shows_the_time_of_each_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(build(CONCAT), model)
    assert main(["check", str(model), "--select", "QDQ1", "--profile-rules"]) == 1
    lines = capsys.readouterr().err.splitlines()
    times = [float(line.split(" s in ")[0].split()[-1]) for line in lines if "QDQ10" in line]
    assert len(times) >= 5 and times == sorted(times, reverse=True)

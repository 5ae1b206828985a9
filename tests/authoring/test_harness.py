"""The harness catches rules that do not keep their word, each with the right verdict."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qdqgraph import Finding, Safety
from qdqgraph.authoring import testing
from qdqgraph.model.text import parse
from qdqgraph.rulekit import Counterexample, Example, Graph, Rewire, Rule, key
from qdqgraph.rulekit.text import TextRule
from tests.support.paths import ROOT
from tests.support.verdicts import AFTER, BEFORE, MODEL, SILENT, faults


class Good(Rule):
    """An Identity after a pair.

    Why: it says nothing.
    Source: measured
    """

    code, name, safety = "MY201", "identity-behind-pair", Safety.EXACT
    examples = [Example("one", BEFORE, AFTER), Counterexample("none", SILENT)]
    file = ROOT / "tests" / "support" / "models.py"

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("Identity"):
            source = node.inputs[0].name
            maker = graph.producer(source)
            if maker is not None and maker.op == "DequantizeLinear":
                yield self.finding(node, "it repeats", edits=[Rewire(r.key, source) for r in graph.readers(key(node))])


def sabotaged(**changes: Any) -> Rule:
    return type("Broken", (Good,), {"__doc__": Good.__doc__, **changes})()


def noisy(self: Rule, graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes("Identity"):
        yield self.finding(node, "any Identity", edits=[Rewire((key(node), 0), node.inputs[0].name)])


def all_identities(self: Rule, graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes("Identity"):
        readers = graph.readers(key(node))
        yield self.finding(node, "any", edits=[Rewire(r.key, node.inputs[0].name) for r in readers])


def to_input(self: Rule, graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes("Identity"):
        if graph.nodes("QuantizeLinear"):
            yield self.finding(node, "too far", edits=[Rewire(r.key, "x") for r in graph.readers(key(node))])


def writes_model(self: Rule, graph: Graph) -> Iterator[Finding]:
    graph.model.graph.node[0].name += "!"
    return Good.find(self, graph)  # type: ignore[arg-type]


def writes_nodes(self: Rule, graph: Graph) -> Iterator[Finding]:
    graph.nodes()[0].name = "changed"
    return Good.find(self, graph)  # type: ignore[arg-type]


def remembers(self: Rule, graph: Graph) -> Iterator[Finding]:
    self.seen = getattr(self, "seen", 0) + 1  # type: ignore[attr-defined]
    if self.seen == 1:  # type: ignore[attr-defined]
        yield from Good.find(self, graph)  # type: ignore[arg-type]


def never_content(self: Rule, graph: Graph) -> Iterator[Finding]:
    yield from Good.find(self, graph)  # type: ignore[arg-type]
    for node in graph.nodes("DequantizeLinear"):
        yield self.finding(node, "still not good")


def crashes(self: Rule, graph: Graph) -> Iterator[Finding]:
    yield from [1 / 0]  # type: ignore[misc]


def proposes_text(self: Rule, graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes("Identity"):
        yield self.finding(node, "a slip", edits=["read x"])  # type: ignore[list-item]


def to_nothing(self: Rule, graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes("Identity"):
        yield self.finding(node, "a slip", edits=[Rewire(r.key, "nowhere") for r in graph.readers(key(node))])


TO_X = MODEL % "last = Identity (x)"
TO_X = TO_X.replace("last = Identity (x)\n    y = Sigmoid (last)", "y = Sigmoid (x)")


OTHER = MODEL % "r = Neg (x) q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) last = Identity (d)"
TO_R = (MODEL % "r = Neg (x)").replace("(last)", "(r)")


def to_negative(self: Rule, graph: Graph) -> Iterator[Finding]:
    for node in graph.nodes("Identity"):
        if graph.nodes("Neg") and graph.nodes("QuantizeLinear"):
            yield self.finding(node, "another value", edits=[Rewire(r.key, "r") for r in graph.readers(key(node))])


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"find": all_identities}, "noisy: any"),
        ({"find": lambda self, graph: iter(())}, "missing: the rule finds nothing"),
        ({"find": to_input}, "wrong: the repair differs from `after`"),
        ({"find": writes_model}, "not pure: scanning changed the graph"),
        ({"find": writes_nodes}, "not pure: scanning changed the graph"),
        ({"find": remembers}, "not pure: a second scan of the same graph gives other findings"),
        ({"find": never_content}, "not idempotent: still not good"),
        ({"find": crashes}, "crashed: QDQ901: rule MY201 crashed: ZeroDivisionError"),
        ({"find": lambda self, graph: iter(["text"])}, "crashed: QDQ901: good.toml: rule MY201: find yields 'text'; write: yield self.finding("),
        ({"find": proposes_text}, "crashed: QDQ901: good.toml: rule MY201: an edit is 'read x'; write Rewire("),
        ({"find": to_nothing}, "crashed: QDQ901: good.toml: rule MY201: a Rewire names 'nowhere', which is not a tensor of the model"),
        ({"find": to_input, "examples": [Example("both wrong together", BEFORE, TO_X), Counterexample("n", SILENT)]}, "not exact: output y changes"),
        ({"find": to_negative, "safety": Safety.LOSSY, "examples": [Example("far off", OTHER, TO_R), Counterexample("n", SILENT)]}, "wrong: output y has an SQNR of"),
        ({"examples": [Example("declared as a report", BEFORE), Counterexample("n", SILENT)]}, "wrong: `after` is None, but the rule applied"),
        ({"find": never_content, "examples": [Example("no change", BEFORE, BEFORE), Counterexample("n", SILENT)]}, "broken: `after` equals `before`"),
        ({"examples": [Example("no text", BEFORE.replace("(d)", "d)"), AFTER), Counterexample("n", SILENT)]}, "broken: line 6 of the text: Expected character ( not found. near 'q = QuantizeLinear"),
        ({"examples": [Example("no model", BEFORE, "hello"), Counterexample("n", SILENT)]}, "broken: after: "),
        ({"examples": [Example("a", BEFORE, AFTER), Counterexample("float", MODEL % "last = Identity (x)")]}, "broken: this is a float model"),
        ({"examples": [Example("unchecked", BEFORE.replace("Sigmoid", "Sigmoidd"), AFTER), Counterexample("n", SILENT)]}, "broken: "),
        ({"examples": [Example("a", BEFORE, AFTER), Example("b", BEFORE, AFTER), Counterexample("n", SILENT)]}, "broken: two examples have the same model"),
        ({"__doc__": "no sentence\n\nWhy: it is.\nSource: me"}, "undocumented: the first line must be a sentence"),
        ({"__doc__": "A sentence."}, "undocumented: add `Why:`"),
        ({"code": "QDQ101"}, "wrong: code QDQ101 belongs to the built-in rule concat-scales-differ"),
        ({"file": ROOT / "tests" / "cli" / "test_files.py"}, "wrong: a rule may import `qdqgraph.rulekit`, numpy, the standard library and helpers beside it (`._NAME`) only, not onnx"),
    ],
)  # fmt: skip
def test_sabotage_is_caught(changes: dict[str, Any], verdict: str) -> None:
    assert not faults(sabotaged(file=Path("good.toml")))
    found = faults(sabotaged(**{"file": Path("good.toml"), **changes}))
    assert any(f.startswith(verdict) for f in found), found


def test_an_exact_text_rule_that_is_wrong_together_with_its_after_is_caught(tmp_path: Path) -> None:
    """Only the numbers notice: pattern, rewrite and `after` agree with each other."""
    file = tmp_path / "wrong.toml"
    file.write_text(
        'code = "MY202"\nname = "double-negation"\nsummary = "Two."\nwhy = "w"\nsource = ["s"]\nsafety = "exact"\n'
        'pattern = "p (x) => (y) { n = Neg (x) y = Neg (n) }"\nrewrite = "r (x) => (y) { y = Neg (x) }"\n'
        f'[[example]]\ntitle = "a"\nbefore = """{MODEL % "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) n = Neg (d) last = Neg (n)"}"""\n'
        f'after = """{MODEL % "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) last = Neg (d)"}"""\n'
        f'[[counterexample]]\ntitle = "b"\nmodel = """{SILENT}"""\n'
    )
    (fault,) = faults(TextRule(file))
    assert fault.startswith("not exact: output y changes")


def test_the_order_of_nodes_in_after_does_not_matter() -> None:
    lines = "k = Relu (x) q = QuantizeLinear (k, s, z) d = DequantizeLinear (q, s, z) m = Neg (x) last = Add (d, m)"
    swapped = "m = Neg (x) k = Relu (x) q = QuantizeLinear (k, s, z) d = DequantizeLinear (q, s, z) last = Add (d, m)"
    other = "m = Neg (x) k = Relu (x) q = QuantizeLinear (m, s, z) d = DequantizeLinear (q, s, z) last = Add (d, k)"
    first, second, third = (testing.canonical(parse(MODEL % text)) for text in (lines, swapped, other))
    assert first == second != third

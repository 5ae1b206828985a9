"""New tensors of a rule never capture a tensor of the model of the same name, whatever the names are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qdqgraph
from qdqgraph import Finding, Options, RuleError, Safety
from qdqgraph.calibration.noise import noise
from qdqgraph.rulekit import Counterexample, Example, Graph, Rule, insert_before, key, make_node, replace
from qdqgraph.rulekit.text import TextRule
from qdqgraph.verify.comparison import compare
from tests.support.models import build

MODEL = """g (float[2] %(a)s, float[2] %(b)s) => (float[2] y) <float s = {0.1}, int8 z = {0}> {
    q = QuantizeLinear (%(a)s, s, z) %(c)s = DequantizeLinear (q, s, z)
    %(d)s = Sub (%(c)s, %(b)s) y = Abs (%(d)s) }"""
NAMES = ("tmp", "tmp_1", "tmp_of_model", "part", "y_part", "y_tmp", "r")
names = st.permutations(NAMES).map(lambda p: dict(zip("abcd", p, strict=False)))


class Splits(Rule):
    """Writes a Sub as Add and Neg, with plain names for the new tensors.

    Why: a test.
    Source: a test.
    """

    code, name, safety = "MY201", "splits", Safety.EXACT
    examples = [Example("a", ""), Counterexample("b", "")]
    file = Path(__file__)

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("Sub"):
            a, b = (t.name for t in node.inputs)
            new = [make_node("Neg", [b], "tmp"), make_node("Add", [a, "tmp"], key(node))]
            yield self.finding(node, f"{a} - {b}", edits=[replace([node], new)])


class Inserts(Splits):
    """Inserts two nodes that cancel before an Abs, with plain names for the new tensors."""

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("Abs"):
            x = node.inputs[0].name
            maker = graph.producer(x)
            if maker is not None and maker.op == "Sub":
                new = [
                    make_node("Neg", [x], "tmp"),
                    make_node("Min", [x, x], "tmp_1"),
                    make_node("Max", ["tmp_1", x], "part"),
                ]
                yield self.finding(node, "insert", edits=[insert_before((key(node), 0), new)])


def exact(model: onnx.ModelProto, rule: Rule) -> onnx.ModelProto:
    onnx.checker.check_model(model, full_check=True)
    result = qdqgraph.fix(model, [rule], Options(also=("MY201",)))
    onnx.checker.check_model(result.model, full_check=True)
    assert result.applied
    assert all(a.identical for a in compare(model, result.model, noise(model, 2), Path()).values())
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    return result.model


@settings(max_examples=40, deadline=None)
@given(names)
def test_names_in_replace(own: dict[str, str]) -> None:
    assert [n.op_type for n in exact(build(MODEL % own), Splits()).graph.node[2:]] == ["Neg", "Add", "Abs"]


@settings(max_examples=20, deadline=None)
@given(names)
def test_names_in_insert_before(own: dict[str, str]) -> None:
    exact(build(MODEL % own), Inserts())


TEXT = """code = "MY201"
name = "splits"
summary = "A Sub."
why = "A test."
source = ["a test"]
safety = "exact"
pattern = "p (a, b) => (y) { y = Sub (a, b) }"
rewrite = "r (a, b) => (y) { tmp = Neg (b) part = Add (a, tmp) y = Identity (part) }"
[[example]]
title = "a"
before = "a"
[[counterexample]]
title = "b"
model = "b"
"""


@settings(max_examples=40, deadline=None)
@given(names)
def test_inner_names_of_a_text_rewrite(tmp_path_factory: pytest.TempPathFactory, own: dict[str, str]) -> None:
    file = tmp_path_factory.mktemp("rules") / "r.toml"
    file.write_text(TEXT)
    own |= {"a": f"{own['d']}_part", "b": f"{own['d']}_tmp"}  # the names that the rewrite would give its own tensors
    exact(build(MODEL % own), TextRule(file))


def test_a_model_without_clashes_keeps_the_names_of_the_rule() -> None:
    own = {"a": "x0", "b": "x1", "c": "x2", "d": "x3"}
    assert [list(n.output) for n in exact(build(MODEL % own), Splits()).graph.node[2:4]] == [["tmp"], ["x3"]]


def found_in(rule: type[Rule], text: str) -> str:
    with pytest.raises(RuleError) as error:
        qdqgraph.check(build(text), [rule()], Options())
    return str(error.value)


PAIR = """g (float[2] x) => (float[2] y) {
    q = QuantizeLinear (x, s1) d = DequantizeLinear (q, s1) r = Relu (d) n = Neg (r) y = Add (n, r) }"""


def test_an_output_that_is_replaced_cannot_be_read_again() -> None:
    class Reuses(Splits):
        """Reads the output of a node that it removes."""

        def find(self, graph: Graph) -> Iterator[Finding]:
            for node in graph.nodes("Neg"):
                relu = graph.node("r")
                yield self.finding(node, "m", edits=[replace([relu, node], [make_node("Neg", ["r"], "n")])])

    said = found_in(Reuses, PAIR)
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if 'graph.node("r")' in text) + 1
    assert said.startswith(
        f"QDQ901: {__file__}:{line}: rule MY201: the new Neg consumes 'r', an output of a node that it replaces"
    )


def test_an_output_that_is_read_cannot_be_dropped() -> None:
    class Drops(Splits):
        """Removes a node that another one reads."""

        def find(self, graph: Graph) -> Iterator[Finding]:
            for node in graph.nodes("Neg"):
                yield self.finding(node, "m", edits=[replace([graph.node("r"), node], [make_node("Neg", ["d"], "n")])])

    said = found_in(Drops, PAIR)
    assert "replace() removes the producer of 'r', which is input of Add, and no new node produces it" in said
    assert f"{__file__}:" in said


def test_an_output_cannot_be_produced_twice() -> None:
    class Twice(Splits):
        """Two new nodes have one output."""

        def find(self, graph: Graph) -> Iterator[Finding]:
            for node in graph.nodes("Neg"):
                new = [make_node("Neg", ["r"], "n"), make_node("Abs", ["r"], "n")]
                yield self.finding(node, "m", edits=[replace([node], new)])

    assert "two new nodes produce 'n'" in found_in(Twice, PAIR)


def test_a_new_line_of_a_rewrite_does_not_lose_attributes_silently(tmp_path: Path) -> None:
    """`y = Conv (x, w)` is a new node, because the pattern calls the Conv c."""
    file = tmp_path / "r.toml"
    pattern = "p (x, w) => (y) { c = Conv (x, w) y = Identity (c) }"
    file.write_text(TEXT.replace("p (a, b) => (y) { y = Sub (a, b) }", pattern).replace(
        "r (a, b) => (y) { tmp = Neg (b) part = Add (a, tmp) y = Identity (part) }", "r (x, w) => (y) { y = Conv (x, w) }"
    ))  # fmt: skip
    with pytest.raises(
        RuleError,
        match=r"r.toml:8: .*'y = Conv \(x, w\)' is a new node without the attributes of 'c = Conv \(x, w\)'.*\[c\]",
    ):
        TextRule(file)
    file.write_text(file.read_text().replace("{ y = Conv (x, w) }", "{ [c] y = Conv (x, w) }"))
    model = build("""g (float[1,1,4,4] x) => (float[1,1,2,2] y) <float[1,1,1,1] w = {2}, int8 z = {0}> {
        q = QuantizeLinear (x, s1, z) d = DequantizeLinear (q, s1, z) c = Conv <strides = [2, 2]> (d, w) y = Identity (c) }""")
    new = exact(model, TextRule(file))
    assert new.graph.node[-1].op_type == "Conv" and list(new.graph.node[-1].attribute[0].ints) == [2, 2]


def test_an_omitted_attribute_keeps_its_meaning_on_another_operator(tmp_path: Path) -> None:
    """Flatten without an axis means 1, LogSoftmax without one means -1."""
    file = tmp_path / "r.toml"
    text = TEXT.replace(
        "p (a, b) => (y) { y = Sub (a, b) }", "p <k> (x) => (y) { f = Flatten <axis = @k> (x) y = Neg (f) }"
    )
    text = text.replace("r (a, b) => (y) { tmp = Neg (b) part = Add (a, tmp) y = Identity (part) }",
                        "r <k> (x) => (y) { y = Softmax <axis = @k> (x) }").replace('"exact"', '"lossy"')  # fmt: skip
    file.write_text(text)
    model = build("""g (float[2,3] x) => (float[2,3] y) {
        q = QuantizeLinear (x, s1) d = DequantizeLinear (q, s1) f = Flatten (d) y = Neg (f) }""")
    new = qdqgraph.fix(model, [TextRule(file)], Options(also=("MY201",))).model
    assert onnx.helper.get_attribute_value(new.graph.node[-1].attribute[0]) == 1
    assert np.isfinite(noise(new, 1)[0]["x"]).all()

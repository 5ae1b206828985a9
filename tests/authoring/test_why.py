"""`why`: explains to rule authors why a rule applies, or does not fire, at a tensor."""

import re
from pathlib import Path

import onnx
import pytest

import qdqgraph
from qdqgraph import Options
from qdqgraph.authoring.why import why
from qdqgraph.cli.main import main
from qdqgraph.rulekit import Graph, catalog
from tests.support.models import CONCAT, build

RULES = qdqgraph.rules()


def answer(text: str, code: str, at: str, **options: float) -> tuple[bool, str]:
    found = why(Graph(build(text)), catalog.find(RULES, code), at, RULES, Options(**options))  # type: ignore[arg-type]
    return found.applies, "\n".join(found.lines)


def test_why_says_that_a_rule_applies_and_what_it_would_do() -> None:
    applies, text = answer(CONCAT, "QDQ101", "c")
    assert applies and text.startswith(
        "QDQ101 applies here: the inputs and output of the Concat have different scales: 0.1 ('a'), 0.11 ('c')"
    )
    assert answer(CONCAT, "QDQ101", "a") == (applies, text), "a tied tensor counts as well"


def test_why_says_that_the_guard_refused() -> None:
    applies, text = answer(CONCAT, "QDQ101", "c", max_bits_lost=0.1)
    assert applies and "refused: the scale of 'c', 0.11, would cost 0.14 bits at 'a'" in text


def test_why_says_that_a_tie_holds_already() -> None:
    assert answer(CONCAT.replace("s2", "s1"), "QDQ101", "c") == (
        False,
        "QDQ101 requires one scale for 'a', 't', 'c'; they share one already, or have none: no finding",
    )


def test_why_names_the_condition_of_a_text_rule_that_failed() -> None:
    text = CONCAT.replace("v = t.conv8 (c, s2)", "m = ReduceMean <axes = [1]> (c) v = Add (m, x)")
    applies, said = answer(text, "QDQ101", "c")
    assert not applies
    assert said.splitlines() == [
        "QDQ101 finds nothing at 'c'",
        "the deepest partial match, 1 of 1 lines:",
        "  + y = Concat (xs)    is 'Concat(c)'",
        "stopped: `carries_int8(y)` does not hold: no reader downstream of 'c' takes INT8, and not all its producer's "
        "inputs are quantized",
    ]


def test_why_shows_the_deepest_partial_match() -> None:
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) { p = t.pair (x, s1) r = Relu (p) y = t.conv4 (r, s1) }"""
    applies, said = answer(text, "QDQ206", "p")
    assert not applies and "the deepest partial match, 2 of 4 lines:" in said
    assert "  + d = DequantizeLinear (q, s, z)" in said and "  - again = QuantizeLinear (d, s, z)" in said
    assert "stopped: no further QuantizeLinear reads 'p', but the pattern has again = QuantizeLinear (d, s, z)" in said


def test_why_says_where_no_line_of_the_pattern_fits() -> None:
    applies, said = answer(CONCAT, "QDQ102", "c")
    pattern = "'c' is produced by Concat and is consumed by QuantizeLinear; the pattern is\n    y = MaxPool (x)"
    assert not applies and pattern in said


GATED = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
    a = t.conv4 (x, s1) g = Sigmoid (a) m = Mul (a, g) y = t.conv4 (m, s2) }"""


def test_why_says_in_words_which_condition_of_a_python_rule_failed() -> None:
    applies, said = answer(GATED, "QDQ204", "m")
    assert not applies
    assert said.splitlines() == [
        "QDQ204 finds nothing at 'm'",
        "it looks for: An average pool or a gating Mul between INT8 layers reads its input as float.",
        "here it stops because",
        "  for Mul(m) there is one: the tensor of which the node's result is an element-wise function, else None",
        "  the operator of 'Mul(m)', Mul, is not one of AveragePool, GlobalAveragePool, ReduceMean",
        "'m' is FLOAT [1, 4, 8, 8], the output of Mul(m), which reads 'a', 'g'",
        "  a pair (activation) quantizes 'm' to INT8: scale 0.11",
        "  consumers: QuantizeLinear(q__2) (input 0)",
    ]


def test_no_python_of_a_rule_is_shown_to_a_user() -> None:
    """Every Python rule, at every tensor: no source line, no path, no expression of Python."""
    graph = Graph(build(GATED))
    tensors = [t.name for node in graph.nodes() for t in node.outputs]
    for rule in (rule for rule in RULES if rule.file.suffix == ".py"):
        for tensor in tensors:
            text = "\n".join(why(graph, rule, tensor, RULES, Options()).lines)
            assert not re.search(r"\.py\b|\bis None\b|  is  |\bif \w+\(|self\.", text), text


def test_a_rule_author_sees_the_line_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a rule that is given by a relative path; nobody sees the source of a built-in rule."""
    monkeypatch.chdir(tmp_path)
    Path("r.py").write_text(SOURCE.replace("CONDITION", "many and node.op in OPS"), encoding="utf-8")
    (rule,) = qdqgraph.rules(["r.py"], builtin=False, installed=False)
    graph = Graph(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { m = Add (x, x) y = t.conv4 (m, s1) }"))
    said = "\n".join(why(graph, rule, "m", [rule], Options(), trace=True).lines)
    assert "here it stops because\n  the number of inputs of Add(m), 2, is above 1" in said
    assert re.search(r"r\.py:\d+, the last line of find\(\) that refers to it:", said)
    assert said.endswith("node.op in OPS  is  True; node.op is 'Add'; OPS is Add, Sub")
    built_in = why(Graph(build(GATED)), catalog.find(RULES, "QDQ204"), "m", RULES, Options(), trace=True)
    assert built_in.lines == why(Graph(build(GATED)), catalog.find(RULES, "QDQ204"), "m", RULES, Options()).lines


def test_why_says_what_a_helper_of_the_rule_found(tmp_path: Path) -> None:
    """The helper has no docstring that says what its answer means, so its own condition is explained."""
    file = tmp_path / "r.py"
    helper = "\ndef _fits(graph: Graph, node: Node, most: int = 1) -> bool:\n    return node.op in OPS and len(node.inputs) > most\n"
    file.write_text(SOURCE.replace("CONDITION", "not _fits(graph, node, 2)") + helper, encoding="utf-8")
    (rule,) = qdqgraph.rules([file], builtin=False, installed=False)
    graph = Graph(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { m = Add (x, x) y = t.conv4 (m, s1) }"))
    assert (
        "  the number of inputs of Add(m), 2, is at most the most, 2," in why(graph, rule, "m", [rule], Options()).lines
    )


def test_why_answers_for_the_role_that_was_asked_about(tmp_path: Path) -> None:
    """'m' is the Mul of the pattern, and also an input of another one; the variable operand is the one that was meant."""
    file = tmp_path / "r.toml"
    file.write_text(
        'code = "MY201"\nname = "scaled"\nsummary = "A."\nwhy = "w"\nsource = ["s"]\nsafety = "manual"\nat = "y"\n'
        'pattern = "p (x, k) => (y) { r = Relu (x) y = Mul (r, k) }"\n[[example]]\ntitle = "a"\nbefore = "a"\n'
        '[[counterexample]]\ntitle = "b"\nmodel = "b"\n'
    )
    (rule,) = qdqgraph.rules([file], builtin=False, installed=False)
    graph = Graph(build("g (float[4] x) => (float[4] y) { a = Tanh (x) m = Mul (s1, a) r = Relu (m) y = Neg (r) }"))
    said = "\n".join(why(graph, rule, "m", [rule], Options()).lines)
    assert "'Tanh(a)' is Tanh, but the pattern has r = Relu (x)" in said


def test_why_takes_a_glob(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(build(CONCAT), model)
    assert main(["why", "QDQ102", str(model), "--at", "[ct]"]) == 1
    out = capsys.readouterr().out
    assert "QDQ102 finds nothing at 'c'" in out and "QDQ102 finds nothing at 't'" in out
    assert main(["why", "QDQ101", str(model), "--at", "[ct]"]) == 0


def test_why_says_what_a_python_rule_reports_where_it_does_not_reach_the_tensor() -> None:
    applies, said = answer(CONCAT, "QDQ204", "c")
    assert not applies
    assert "it does not report this tensor; it reports, for example:\n  a global pool and a convolution" in said
    assert "'c' is FLOAT [1, 8, 8, 8], the output of Concat(c), which reads 'a', 't'" in said


def test_the_tensor_of_a_pair_is_the_place_of_its_findings() -> None:
    """The finding is at the QuantizeLinear; the user asks about the tensor that it quantizes."""
    model = build(
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { q = QuantizeLinear (x, s1) y = DequantizeLinear (q, s1) }"
    )
    found = why(Graph(model), catalog.find(RULES, "QDQ402"), "x", RULES, Options())
    assert found.applies and "'x' is quantized without a zero-point" in found.lines[0]


def test_the_words_come_from_the_functions_of_a_rule(tmp_path: Path) -> None:
    """Each form of a condition: a comparison, a membership, a question, a missing value, a list, a name for a test."""
    said: list[str] = []
    for condition in (
        "len(node.inputs) < 3", "node.op in OPS", "_small(graph, node)", "_scale(graph, node) is None",
        "many", "node.op != 'Add' or many",
    ):  # fmt: skip
        file = tmp_path / f"r{len(said)}.py"
        file.write_text(SOURCE.replace("CONDITION", condition), encoding="utf-8")
        (rule,) = qdqgraph.rules([file], builtin=False, installed=False)
        text = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { m = Add (x, x) y = t.conv4 (m, s1) }"
        lines = why(Graph(build(text)), rule, "m", [rule], Options()).lines
        said.append(lines[lines.index("here it stops because") + 1].strip() if len(lines) > 5 else lines[-1])
    assert said == [
        "the number of inputs of Add(m), 2, is below 3",
        "the operator of 'Add(m)', Add, is one of Add, Sub",
        "true for Add(m): the node is small",
        "for Add(m) there is none: the scale of the node",
        "the number of inputs of Add(m), 2, is above 1",
        "the number of inputs of Add(m), 2, is above 1",
    ]


SOURCE = '''"""MY201."""
from collections.abc import Iterator
from qdqgraph.rulekit import Counterexample, Example, Finding, Graph, Node, Rule, Safety
OPS = ("Add", "Sub")

class Adds(Rule):
    """An Add is there.

    Why: a test.
    Source: a test.
    """
    code, name, safety = "MY201", "adds", Safety.MANUAL
    examples = [Example("an Add", before=""), Counterexample("no Add", "")]

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("Add"):
            many = len(node.inputs) > 1
            if CONDITION:
                continue
            if graph.opset:
                continue
            yield self.finding(node, "an Add")

def _small(graph: Graph, node: Node) -> bool:
    """Returns whether the node is small: it has two inputs."""
    return len(node.inputs) == 2

def _scale(graph: Graph, node: Node) -> float | None:
    """Returns the scale of the node; None if it has none."""
    return None
'''


def test_why_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(build(CONCAT), model)
    assert main(["why", "concat-scales-differ", str(model), "--at", "c"]) == 0
    assert main(["why", "QDQ102", str(model), "--at", "c"]) == 1
    capsys.readouterr()
    assert main(["why", "QDQ101", str(model), "--at", "cc"]) == 2
    assert "the model has no tensor or node 'cc'; did you mean 'c'?" in capsys.readouterr().err
    assert main(["why", "QDQ111", str(model), "--at", "c"]) == 2
    assert "there is no rule 'QDQ111'; did you mean 'QDQ" in capsys.readouterr().err

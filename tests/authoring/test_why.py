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
        True,
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


def test_why_names_the_condition_of_a_python_rule_that_failed() -> None:
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = t.conv4 (x, s1) g = Sigmoid (a) m = Mul (a, g) y = t.conv4 (m, s2) }"""
    applies, said = answer(text, "QDQ204", "m")
    assert not applies
    assert re.search(r"average_or_mul_unpaired\.py:\d+, the last line of find\(\) that refers to it:", said)
    assert said.endswith(
        "    if not gating and node.op not in AVERAGES\n      not gating  is  True\n      node.op not in AVERAGES  is  True"
    )


def test_why_says_that_a_python_rule_does_not_reach_the_tensor() -> None:
    applies, said = answer(CONCAT, "QDQ204", "c")
    assert not applies and said.endswith("the rule does not reach this tensor: it checks other operators or sites")


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

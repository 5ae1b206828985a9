"""Computed constants: what an expression means, where it has no value, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import Options, RuleError
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit.text import TextRule
from tests.support.models import build

Load = Callable[..., TextRule]
FOLD = """
code = "MY101"
name = "factor-after-dequantize"
summary = "A factor follows a DequantizeLinear."
why = "TensorRT."
source = ["measured"]
safety = "lossy"
pattern = "pattern (q, s, z, c) => (y) {{ d = DequantizeLinear (q, s, z) y = Mul (d, c) }}"
rewrite = "rewrite (q, t, z) => (y) {{ y = DequantizeLinear (q, t, z) }}"
where = ["scalar(s)"]
[compute]
t = "{}"
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(expression: str) -> TextRule:
        (tmp_path / "rule.toml").write_text(FOLD.format(expression))
        return TextRule(tmp_path / "rule.toml")

    return loaded


def model(factor: str = "float c = {0.5}") -> onnx.ModelProto:
    return build(f"""g (float[2] x) => (float[2] y) <int8 z = {{0}}, {factor}> {{
        q = QuantizeLinear (x, s1, z) d = DequantizeLinear (q, s1, z) y = Mul (d, c) }}""")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("s * c", 0.05),
        ("(s + c) / 2 - 0.1", 0.2),
        ("-s ** 2 + 1", 0.99),
        ("max(s, c, 0.2) * min(s, c)", 0.05),
        ("sqrt(abs(s * s)) * round(c * 5)", 0.2),
        ("s * largest(c)", 0.05),
    ],
)
def test_a_constant_is_computed_from_captured_constants(load: Load, expression: str, value: float) -> None:
    (node, *_), constants = _repaired(load(expression), model())
    assert node == "QuantizeLinear"
    assert constants["DequantizeLinear"] == np.float32(value) and constants["DequantizeLinear"].dtype == np.float32


def test_the_largest_of_several_values(load: Load) -> None:
    _, constants = _repaired(load("s * largest(c)"), model("float[2] c = {0.25, 0.5}"))
    assert constants["DequantizeLinear"] == np.float32(0.05)


def _repaired(rule: TextRule, model: onnx.ModelProto) -> tuple[list[str], dict[str, np.ndarray]]:
    """The operators, and the scale that each reads, after the repair by one rule; undo is byte-identical."""
    result = qdqgraph.fix(model, [rule], Options(also=("MY101",)))
    assert result.plan.inverse().apply(result.model).SerializeToString() == model.SerializeToString()
    values = {t.name: onnx.numpy_helper.to_array(t) for t in result.model.graph.initializer}
    nodes = result.model.graph.node
    return [n.op_type for n in nodes], {
        n.op_type: values[n.input[1]] for n in nodes if len(n.input) > 1 and n.input[1] in values
    }


@pytest.mark.parametrize("expression", ["s / (c - 0.5)", "s * 1e200", "sqrt(-c) * s"])
def test_a_value_that_is_no_finite_number_is_no_match(load: Load, expression: str) -> None:
    assert "Mul" in _repaired(load(expression), model())[0]


@pytest.mark.parametrize(("expression", "fits"), [("w * 2", True), ("w * 3", False), ("w / 3", True), ("w / 7", False)])
def test_integers_are_stored_where_they_fit(tmp_path: Path, expression: str, fits: bool) -> None:
    file = tmp_path / "rule.toml"
    text = FOLD.format(expression).replace("(q, s, z, c) => (y) { d = DequantizeLinear (q, s, z) y = Mul (d, c) }",
        "(w, s, z) => (y) { d = DequantizeLinear (w, s, z) y = Neg (d) }")  # fmt: skip
    file.write_text(
        text.replace("(q, t, z) => (y) { y = D", "(t, s, z) => (y) { y = D").replace("(q, t, z)", "(t, s, z)")
    )
    weights = build("g (float[2] x) => (float[2] v, float[2] y) <int8 z = {0}, int8[2] w = {60, -60}> { "
        "q = QuantizeLinear (x, s1, z) v = DequantizeLinear (q, s1, z) d = DequantizeLinear (w, s1, z) y = Neg (d) }")  # fmt: skip
    assert ("Neg" not in _repaired(TextRule(file), weights)[0]) == fits


def test_texts_are_no_numbers(load: Load) -> None:
    graph = Graph(
        onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y)
        <float s = {0.1}, int8 z = {0}, string[1] c = {"a"}> { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z)
        y = Mul (d, c) }""")
    )
    assert not list(load("s * largest(c)").matches(graph))


def test_what_is_computed_at_run_time_is_no_match(load: Load) -> None:
    run_time = build("""g (float[2] x, float c) => (float[2] y) <int8 z = {0}> {
        q = QuantizeLinear (x, s1, z) d = DequantizeLinear (q, s1, z) y = Mul (d, c) }""")
    assert "Mul" in _repaired(load("s * c"), run_time)[0]


def test_no_result_is_larger_than_its_operands(tmp_path: Path) -> None:
    file = tmp_path / "rule.toml"
    file.write_text(
        FOLD.format("a * b").replace("(q, s, z, c) => (y) { d = DequantizeLinear (q, s, z) y = Mul (d, c) }",
            "(x, a, b) => (y) { m = Mul (x, a) y = Mul (m, b) }").replace(
            "(q, t, z) => (y) { y = DequantizeLinear (q, t, z) }", "(x, t) => (y) { y = Mul (x, t) }").replace(
            'where = ["scalar(s)"]', "")
    )  # fmt: skip
    text = """g (float[2,2] x) => (float[2,2] y) <float[1,2] a = {3, 2}, float%s b = {4, 5}, int8 z = {0}> {
        q = QuantizeLinear (x, s1, z) d = DequantizeLinear (q, s1, z) m = Mul (d, a) y = Mul (m, b) }"""
    for shape, left in (("[1,2]", ["Mul"]), ("[2,1]", ["Mul", "Mul"])):
        assert _repaired(TextRule(file), build(text % shape))[0][2:] == left


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("s *", "is not an expression; write arithmetic of variables and numbers, such as s * c"),
        ("__import__('os').system('true')", "is not allowed; write arithmetic"),
        ("eval(s)", "there is no function 'eval'"),
        ("s.dtype", "'s.dtype' is not allowed"),
        ("[s for s in c]", "is not allowed"),
        ("s if c else z", "is not allowed"),
        ("s * scale", "'scale' is not a variable of the pattern"),
        ("1 / 127", "reads no variable of the pattern; use a Constant in the rewrite"),
        ("exp(s)", "there is no function 'exp'; the functions are abs, sqrt"),
        ("s" + " * s" * 100, "an expression of 401 characters is too long; write at most 200"),
    ],
)
def test_an_expression_is_data_and_a_mistake_has_file_and_line(load: Load, expression: str, said: str) -> None:
    with pytest.raises(RuleError) as error:
        load(expression)
    assert "rule.toml:12: " in str(error.value) and said in str(error.value)


def test_a_computed_constant_must_be_used_and_needs_a_rewrite(tmp_path: Path) -> None:
    file = tmp_path / "rule.toml"
    file.write_text(FOLD.format("s * c").replace("(q, t, z)", "(q, s, z)"))
    with pytest.raises(RuleError, match="the rewrite does not use the computed 't': add it to its parameters"):
        TextRule(file)
    lines = [line for line in FOLD.format("s * c").splitlines() if not line.startswith("rewrite")]
    file.write_text("\n".join(lines).replace("lossy", "manual"))
    with pytest.raises(RuleError, match="`compute` needs a `rewrite` that reads its constants"):
        TextRule(file)

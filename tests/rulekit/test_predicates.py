"""The conditions of text rules."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from qdqgraph import RuleError
from qdqgraph.rulekit import Graph
from qdqgraph.rulekit.text import TextRule
from qdqgraph.rulekit.text.conditions import Alternatives
from qdqgraph.rulekit.text.pattern import Pattern
from qdqgraph.rulekit.text.predicates import PREDICATES
from tests.support.models import build
from tests.support.text_rules import places

WORLD = """g (float[1,4,8,8] x, float[1,4,8,8] t) => (float[1,4,8,8] out, float[1,4,8,8] other, float[1,1,8,8] moved)
    <int8 z = {0}, int8 three = {3}, float[2] two = {1, 2}, float one = {0.1}, int8[1,1,1,1] w = {3}, int64[1] ax = {1}> {
    a = Relu (x)
    q = QuantizeLinear (a, s1, z)
    d = DequantizeLinear (q, s1, z)
    k = DequantizeLinear (w, s1, z)
    c = Transpose <perm = [0, 1, 3, 2]> (d)
    p = QuantizeLinear (c, s1, z)
    e = DequantizeLinear (p, s1, z)
    out = Exp (e)
    n = Neg (a)
    other = Add (n, t)
    moved = ReduceMax <axes = [1]> (e)
}"""


HOLDS = {
    "same_value": (["one", "s1"], ["s1", "s2"]),
    "constant": (["k"], ["d"]),
    "scalar": (["s1"], ["two"]),
    "zero": (["z"], ["three"]),
    "above": (["two", "0.5"], ["two", "1"]),
    "sole_consumer": (["q"], ["a"]),
    "fanout": (["a", "2", "3"], ["a", "3"]),
    "followed_by": (["q", "DequantizeLinear"], ["a", "QuantizeLinear"]),
    "read_by": (["a", "Neg"], ["a", "Conv"]),
    "made_by": (["a", "Relu", "Clip"], ["a", "Clip"]),
    "before": (["a", "n"], ["n", "a"]),
    "graph_input": (["t"], ["a"]),
    "graph_output": (["other"], ["n"]),
    "paired": (["a"], ["n"]),
    "moves": (["c"], ["out"]),
    "carries_int8": (["c"], ["out"]),
    "feeds_int8": (["a"], ["n"]),
    "same_shape": (["x", "t"], ["x", "moved"]),
    "rank": (["x", "4"], ["x", "3"]),
    "dtype": (["w", "INT8"], ["x", "INT8"]),
    "opset": (["17"], ["18"]),
}


@pytest.mark.parametrize("name", list(PREDICATES))
def test_every_predicate_holds_and_fails_with_a_reason(name: str) -> None:
    predicate, graph = PREDICATES[name], Graph(build(WORLD))
    assert predicate.example.removeprefix("not ").startswith(f"{name}(") and predicate.meaning.endswith(".")

    def given(arguments: list[str]) -> list[object]:
        return [float(a) if a.replace(".", "").isdigit() else a for a in arguments]

    holds, fails = HOLDS[name]
    assert predicate.check(graph, *given(holds)) == ""
    assert predicate.check(graph, *given(fails)) != ""


def test_not_turns_a_condition_round(report: Callable[..., TextRule]) -> None:
    model = build("g (float[2] x) => (float[2] y, float[2] v) <float[2] w = {1, 2}> { y = Neg (x) v = Neg (w) }")
    pattern = "p (x) => (y) { y = Neg (x) }"
    assert places(report(pattern, 'where = ["constant(x)"]'), model) == ["v"]
    assert places(report(pattern, 'where = ["not constant(x)"]'), model) == ["y"]


def test_some_asks_for_one_of_the_tensors_of_a_variadic_variable(report: Callable[..., TextRule]) -> None:
    model = build("""g (float[1,2] x) => (float[1,4] y, float[1,4] v) { r = Relu (x)
        y = Concat <axis = 1> (x, r) v = Concat <axis = 1> (r, r) }""")
    pattern, variadic = "p (xs) => (y) { y = Concat (xs) }", 'variadic = ["xs"]\n'
    assert places(report(pattern, f'{variadic}where = ["some graph_input(xs)"]'), model) == ["y"]
    assert places(report(pattern, f'{variadic}where = ["graph_input(xs)"]'), model) == []


def test_or_joins_conditions_of_which_one_must_hold(report: Callable[..., TextRule]) -> None:
    model = build("g (float[2] x) => (float[2] y, float[2] v) { r = Relu (x) s = Neg (r) y = Neg (s) v = Neg (x) }")
    rule = report("p (x) => (y) { y = Neg (x) }", 'where = ["graph_input(x) or made_by(x, Relu)"]')
    assert places(rule, model) == ["s", "v"]
    with pytest.raises(RuleError, match="there is no predicate 'graph_inputs'"):
        report("p (x) => (y) { y = Neg (x) }", 'where = ["constant(x) or graph_inputs(x)"]')


def test_operators_of_several_domains_have_one_name(report: Callable[..., TextRule]) -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "acme" : 1]>
        g (float[2] x) => (float[2] y) { a = acme.Act (x) b = Relu (a) c = Act2 (b) y = acme.Relu (b) }""")
    ops = '[ops]\nAct = ["Relu", "acme.Act"]'
    assert places(report("p (x) => (y) { y = Act (x) }", ops), model) == ["a", "b"]
    assert places(report("p (x) => (y) { y = acme.Relu (x) }"), model) == ["y"]
    assert places(report("p (x) => (y) { y = Relu (x) }", 'where = ["made_by(x, acme.Act)"]'), model) == ["b"]
    assert places(report("p (x) => (y) { y = Relu (x) }", 'where = ["read_by(y, acme.Relu)"]'), model) == ["b"]
    assert places(report("p (x) => (y) { y = Relu (x) }", 'where = ["followed_by(y, acme.Relu)"]'), model) == []


def test_types_in_a_condition_are_no_operators() -> None:
    line = Alternatives.parse(
        "dtype(x, int8) or made_by(x, Relu, acme.Act)", Pattern.parse("p (x) => (y) { y = Relu (x) }")
    )
    assert line.operators == {"Relu", "acme.Act"}


def test_values_of_any_size_are_compared_bit_for_bit() -> None:
    from qdqgraph.rulekit.text.match import same_value

    values = np.arange(8, dtype=np.float32)
    tensors: dict[str, np.ndarray] = {"a": values, "b": values.copy(), "c": values.astype(np.float64), "d": -values}
    model = build("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in tensors.items())
    graph = Graph(model)
    assert [same_value(graph, "a", n) for n in "abcd"] == [True, True, False, False]

"""Text rules: what a pattern matches, what a rewrite puts in its place, what a tie joins, how mistakes are answered."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import qdqgraph
from qdqgraph import Options, Result, RuleError
from qdqgraph.calibration.noise import noise
from qdqgraph.rulekit import Graph, Node
from qdqgraph.rulekit.text import TextRule
from qdqgraph.rulekit.text.predicates import PREDICATES
from qdqgraph.verify.comparison import compare
from tests.support.models import build, scales

HEAD = """code = "MY201"
name = "my-rule"
summary = "Something is wrong."
why = "TensorRT."
source = ["measured"]
"""
Load = Callable[[str], TextRule]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(text: str) -> TextRule:
        file = tmp_path / "my_rule.toml"
        file.write_text(text)
        return TextRule(file)

    return loaded


@pytest.fixture
def report(load: Load) -> Callable[..., TextRule]:
    """A rule that only reports where a pattern matches."""

    def made(pattern: str, more: str = "") -> TextRule:
        return load(f'{HEAD}safety = "manual"\nmessage = "here"\npattern = """{pattern}"""\n{more}')

    return made


@pytest.fixture
def rewrite(load: Load) -> Callable[..., TextRule]:
    """A rule that replaces a pattern."""

    def made(pattern: str, result: str, more: str = "", safety: str = "exact") -> TextRule:
        return load(f'{HEAD}safety = "{safety}"\npattern = """{pattern}"""\nrewrite = """{result}"""\n{more}')

    return made


def places(rule: TextRule, model: onnx.ModelProto) -> list[str]:
    return [f.place for f in rule.find(Graph(model))]


def applied(rule: TextRule, model: onnx.ModelProto, *, exact: bool = True) -> Result:
    """The repair by one rule; checked for a valid model, an exact undo, and the same numbers where that is promised."""
    before = model.SerializeToString()
    result = qdqgraph.fix(model, [rule], Options())
    onnx.checker.check_model(result.model, full_check=True)
    assert model.SerializeToString() == before
    assert result.plan.inverse().apply(result.model).SerializeToString() == before
    if exact:
        assert all(a.identical for a in compare(model, result.model, noise(model, 2), Path()).values())
    return result


def ops(model: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


# What a pattern matches


def test_a_variable_is_one_tensor_or_one_constant_value(report: Callable[..., TextRule]) -> None:
    rule = report("p (x, s, z) => (y) { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }")
    model = build("""g (float[2] x) => (float[2] a, float[2] b) <float same = {0.1}, float other = {0.11}, int8 z = {0}> {
        q = QuantizeLinear (x, s1, z) a = DequantizeLinear (q, same, z)
        p = QuantizeLinear (x, s1, z) b = DequantizeLinear (p, other, z) }""")
    assert places(rule, model) == ["a"]


def test_add_and_mul_match_in_either_order_other_operators_as_written(report: Callable[..., TextRule]) -> None:
    model = build("g (float[2] x) => (float[2] y, float[2] v) { r = Relu (x) y = Add (x, r) v = Sub (x, r) }")
    assert places(report("p (x, c) => (y) { r = Relu (x) y = Add (r, c) }"), model) == ["y"]
    assert places(report("p (x, c) => (y) { r = Relu (x) y = Sub (r, c) }"), model) == []
    assert places(report("p (x, c) => (y) { r = Relu (x) y = Sub (c, r) }"), model) == ["v"]


def test_an_optional_input_may_be_absent_another_may_not(report: Callable[..., TextRule]) -> None:
    model = build("g (float[2] x) => (float[2] y) { q = QuantizeLinear (x, s1) y = DequantizeLinear (q, s1) }")
    pattern = "p (x, s, z) => (q) { q = QuantizeLinear (x, s, z) }"
    assert places(report(pattern), model) == []
    assert places(report(pattern, 'optional = ["z"]'), model) == ["q"]


def test_a_dequantize_linear_without_zero_point_means_zero(report: Callable[..., TextRule]) -> None:
    rule = report("p (x, s, z) => (y) { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }")
    text = (
        "g (float[2] x) => (float[2] y) <int8 z = {%d}> { q = QuantizeLinear (x, s1, z) y = DequantizeLinear (q, s1) }"
    )
    assert places(rule, build(text % 0)) == ["y"]
    assert places(rule, build(text % 3)) == []


def test_a_variadic_variable_takes_all_inputs_or_all_outputs(report: Callable[..., TextRule]) -> None:
    model = build("g (float[1,4] x) => (float[1,6] y) { a, b = Split <axis = 1> (x) y = Concat <axis = 1> (a, b, a) }")
    rule = report("p (xs) => (y) { y = Concat (xs) }", 'variadic = ["xs"]')
    (match,) = rule.matches(Graph(model))
    assert match.tensors["xs"] == ("a", "b", "a")
    rule = report("p (x, r) => (ys) { ys = Split (x, r) }", 'variadic = ["r", "ys"]')
    (match,) = rule.matches(Graph(model))
    assert (match.tensors["ys"], match.tensors["r"]) == (("a", "b"), ())


def test_an_attribute_is_compared_with_what_onnx_takes_where_it_is_left_out(report: Callable[..., TextRule]) -> None:
    model = build("""g (float[2,3] x) => (float[2,3] y, float[2,3] v, float[2,3] u) {
        y = Softmax (x) v = Softmax <axis = 0> (x) u = Softmax <axis = -1> (x) }""")
    assert places(report("p (x) => (y) { y = Softmax <axis = -1> (x) }"), model) == ["y", "u"]
    assert places(report("p (x) => (y) { y = Softmax (x) }"), model) == ["y", "v", "u"]


def test_an_attribute_variable_is_one_value(report: Callable[..., TextRule]) -> None:
    rule = report("p <a> (x) => (y) { s = Softmax <axis = @a> (x) y = Softmax <axis = @a> (s) }")
    model = build("""g (float[2,3] x) => (float[2,3] y, float[2,3] v) {
        a = Softmax <axis = 0> (x) y = Softmax <axis = 0> (a) v = Softmax <axis = 1> (a) }""")
    assert places(rule, model) == ["y"]


def test_a_pattern_with_several_outputs_spans_siblings(report: Callable[..., TextRule]) -> None:
    rule = report("p (x) => (y, v) { r = Relu (x) y = Exp (r) v = Neg (r) }", 'at = "v"')
    model = build(
        "g (float[2] x) => (float[2] a, float[2] b, float[2] c) { r = Relu (x) a = Exp (r) b = Neg (r) c = Neg (x) }"
    )
    assert places(rule, model) == ["b"]


def test_a_name_for_several_operators(report: Callable[..., TextRule]) -> None:
    rule = report("p (x) => (y) { y = Act (x) }", '[ops]\nAct = ["Relu", "Sigmoid"]')
    assert places(rule, build("g (float[2] x) => (float[2] y) { a = Relu (x) b = Tanh (a) y = Sigmoid (b) }")) == [
        "a",
        "y",
    ]


def test_operators_of_other_domains_match_by_domain(report: Callable[..., TextRule]) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[2] x) => (float[2] y) { a = Gelu (x) y = com.microsoft.Gelu (a) }"""
    model = onnx.parser.parse_model(text)
    assert places(report("p (x) => (y) { y = com.microsoft.Gelu (x) }"), model) == ["y"]


def test_matching_costs_what_the_candidates_cost(report: Callable[..., TextRule]) -> None:
    """A rule whose operators the graph does not have asks no node at all."""

    class Counting(Graph):
        asked = 0

        def producer(self, tensor: str) -> Node | None:
            Counting.asked += 1
            return super().producer(tensor)

    chain = " ".join(f"t{i + 1} = Relu (t{i})" for i in range(500))
    model = build(f"g (float[2] t0) => (float[2] t500) {{ {chain} }}")
    rule = report("p (x) => (y) { r = Relu (x) y = HardSwish (r) }")
    assert list(rule.find(Counting(model))) == [] and Counting.asked == 0


# What a rewrite does


def test_a_kept_line_keeps_name_attributes_metadata_and_place(rewrite: Callable[..., TextRule]) -> None:
    rule = rewrite(
        "p (x, s, z, w) => (y) { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) i = Identity (d) y = Conv (i, w) }",
        "r (x, s, z, w) => (y) { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Conv (d, w) }",
    )
    model = build(
        """g (float[1,1,6,6] x) => (float[1,1,2,2] y) <int8 z = {0}, float[1,1,3,3] w> {
        q = QuantizeLinear (x, s1, z) d = DequantizeLinear (q, s1, z) i = Identity (d)
        y = Conv <strides = [2, 2]> (i, w) }""".replace(
            "<int8 z = {0}, float[1,1,3,3] w>", "<int8 z = {0}, float[1,1,1,1] w = {2}>"
        ).replace("[1,1,2,2]", "[1,1,3,3]")
    )
    model.graph.node[-1].name = "conv"
    model.graph.node[-1].metadata_props.add(key="scope", value="model.conv")
    result = applied(rule, model)
    conv = result.model.graph.node[-1]
    assert (conv.name, conv.input[0], list(conv.attribute[0].ints)) == ("conv", "d", [2, 2])
    assert conv.metadata_props[0].value == "model.conv" and "Identity" not in ops(result.model)


def test_an_output_of_the_graph_keeps_its_name(rewrite: Callable[..., TextRule]) -> None:
    rule = rewrite("p (x) => (y) { r = Relu (x) y = Relu (r) }", "r (x) => (y) { y = Relu (x) }")
    model = build(
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) y = Relu (a) v = t.conv4 (x, s1) }"
    )
    assert ops(applied(rule, model).model).count("Relu") == 1


def test_what_something_else_reads_stays(rewrite: Callable[..., TextRule]) -> None:
    rule = rewrite("p (x) => (y) { n = Neg (x) y = Neg (n) }", "r (x) => (y) { y = Identity (x) }")
    model = build("""g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) {
        n = Neg (x) m = Neg (n) y = t.conv4 (m, s1) v = Relu (n) }""")
    result = applied(rule, model)
    assert ops(result.model).count("Neg") == 1 and "Identity" not in ops(result.model)


def test_a_value_that_changes_and_that_others_read_is_no_match(rewrite: Callable[..., TextRule]) -> None:
    text = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { r = Relu (x) e = Exp (r) %s v = t.conv4 (e, s1) }"
    rule = rewrite(
        "p (x) => (y) { r = Relu (x) y = Exp (r) }",
        "r (x) => (y) { a = Abs (x) r = Relu (a) y = Exp (r) }",
        safety="lossy",
    )
    assert places(rule, build(text % "y = Neg (r)")) == []
    assert places(rule, build(text % "y = Neg (e)")) == ["e"]


def test_a_constant_of_a_rewrite_becomes_an_initializer(rewrite: Callable[..., TextRule]) -> None:
    rule = rewrite(
        "p (x) => (y) { n = Neg (x) y = Neg (n) }",
        "r (x) => (y) { one = Constant <value = float {1}> () y = Mul (x, one) }",
    )
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { n = Neg (x) m = Neg (n) y = t.conv4 (m, s1) }")
    result = applied(rule, model)
    assert ops(result.model)[0] == "Mul" and "Constant" not in ops(result.model)[:1]
    assert [float(onnx.numpy_helper.to_array(i)) for i in result.model.graph.initializer if i.name.endswith("one")] == [
        1.0
    ]


def test_overlapping_matches_settle_in_rounds(rewrite: Callable[..., TextRule]) -> None:
    rule = rewrite("p (x) => (y) { n = Relu (x) y = Relu (n) }", "r (x) => (y) { y = Relu (x) }")
    chain = " ".join(f"t{i + 1} = Relu (t{i})" for i in range(40))
    model = build(f"g (float[1,4,8,8] t0) => (float[1,4,8,8] y) {{ {chain} y = t.conv4 (t40, s1) }}")
    assert ops(applied(rule, model).model).count("Relu") == 1


def test_new_nodes_say_which_rule_made_them(rewrite: Callable[..., TextRule]) -> None:
    rule = rewrite("p (x) => (y) { n = Neg (x) y = Neg (n) }", "r (x) => (y) { y = Add (x, x) }", safety="lossy")
    model = build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { n = Neg (x) m = Neg (n) y = t.conv4 (m, s1) }")
    (added,) = [n for n in applied(rule, model, exact=False).model.graph.node if n.op_type == "Add"]
    assert [(p.key, p.value) for p in added.metadata_props] == [("qdqgraph.rule", "MY201")] and added.name


# What a tie joins


TIED = "g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) { a = Relu (x) b = Neg (x) y = t.conv4 (a, s1) v = t.conv4 (b, s2) }"


@pytest.mark.parametrize(
    "tie",
    [
        'tensors = ["a", "b"]',
        'tensors = ["[ab]"]',
        'outputs_of = ["relu", "neg"]',
        'inputs_of = ["*Quantize*"]',
        'tensors = ["a"]\noutputs_of = ["neg"]',
    ],
)
def test_named_ties(load: Load, tie: str) -> None:
    model = build(TIED)
    for node in model.graph.node:
        if node.op_type in ("Relu", "Neg", "QuantizeLinear") and node.input[0] not in ("w",):
            node.name = f"{node.op_type}_{node.output[0]}" if node.op_type == "QuantizeLinear" else node.op_type.lower()
    result = applied(load(f'{HEAD}safety = "lossy"\n[[tie]]\n{tie}\n'), model, exact=False)
    assert scales(result.model) == {"a": {0.11}, "b": {0.11}}


def test_a_tie_has_its_own_policy_and_guard(load: Load) -> None:
    rule = load(f'{HEAD}safety = "lossy"\n[tie]\ntensors = ["a", "b"]\npolicy = "fixed:0.2"\nmax_bits_lost = 2\n')
    assert scales(applied(rule, build(TIED), exact=False).model) == {"a": {0.2}, "b": {0.2}}
    rule = load(f'{HEAD}safety = "lossy"\n[tie]\ntensors = ["a", "b"]\nmax_bits_lost = 0.1\n')
    result = applied(rule, build(TIED), exact=False)
    assert not result.applied and "the limit is 0.1" in result.left[0].refused


def test_a_name_that_matches_nothing_stops_the_run_unless_it_may(load: Load) -> None:
    text = f'{HEAD}safety = "lossy"\n[tie]\ntensors = ["a", "bb"]\n'
    with pytest.raises(RuleError, match=r"my_rule\.toml:8: tensors 'bb' matches nothing .* did you mean 'b'\?"):
        qdqgraph.fix(build(TIED), [load(text)])
    assert not qdqgraph.fix(build(TIED), [load(text + "required = false\n")]).applied


# How mistakes are answered


GOOD = f"""{HEAD}safety = "exact"
pattern = '''
p (x, s, z) => (y) {{
    q = QuantizeLinear (x, s, z)
    y = DequantizeLinear (q, s, z)
}}'''
rewrite = "r (x) => (y) {{ y = Relu (x) }}"
where = [
    "scalar(s)",
    "zero(z)",
]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('code = "MY201"', 'code = "my1"', 1, "code is 'my1'; write, for example, 'MY201'"),
        ('name = "my-rule"', 'name = "My Rule"', 2, "name is 'My Rule'; write, for example, 'repeated-pair'"),
        ("summary", "summry", 3, "unknown key 'summry'; did you mean 'summary'?"),
        ('source = ["measured"]', 'source = "measured"', 5, "source must be an array of strings"),
        ('safety = "exact"', 'safety = "safe"', 6, "safety is 'safe'; write one of exact, lossy, manual"),
        ('safety = "exact"', 'safety = "manual"', 6, "the rule proposes a repair: write exact or lossy"),
        ('safety = "exact"', 'safety = "exact', 6, "this is not valid TOML"),
        ("QuantizeLinear (x, s, z)\n    y", "Quantizelinear (x, s, z)\n    y", 9, "ONNX has no operator 'Quantizelinear'; did you mean 'QuantizeLinear'?"),
        ("DequantizeLinear (q, s, z)", "DequantizeLinear (q, s, zz)", 10, "variable 'zz' is not defined: add it to the parameters, or produce it; did you mean 'z'?"),
        ("(x, s, z) => (y) {", "(x, s, z, w) => (y) {", 8, "parameter 'w' is never used"),
        ("(x, s, z) => (y) {", "(x, s, z) => (v) {", 8, "no node of the function produces output 'v'"),
        ("    y = Dequ", "    q = Dequ", 9, "variable 'q' is defined twice"),
        ("    y = DequantizeLinear (q, s, z)\n", "    y = DequantizeLinear (q, s, z\n", 11, "this is not ONNX function text"),
        ("r (x) => (y)", "r (x, k) => (y)", 12, "parameter 'k' is never used"),
        ("y = Relu (x) }", "v = Relu (x) }", 12, "no node of the function produces output 'y'"),
        ('"zero(z)"', '"zer(z)"', 15, "there is no predicate 'zer'; did you mean 'zero'? The list: same_value,"),
        ('"zero(z)"', '"zero(k)"', 15, "the pattern has no variable 'k'; it has q, s, x, y, z"),
        ('"zero(z)"', '"zero z"', 15, "is not a condition; write, for example: scalar(s), or: not constant(x)"),
        ('"zero(z)"', '"same_value(z)"', 15, "has 1 arguments; write, for example: same_value(s, t)"),
        ('"zero(z)"', '"dtype(z, int9)"', 15, "ONNX has no type 'int9'"),
        ('"zero(z)"', '"followed_by(y, Cov)"', 15, "ONNX has no operator 'Cov'"),
        ('"zero(z)"', '"rank(x, four)"', 15, "'four' is not a number"),
        ("where", 'optional = ["t"]\nwhere', 13, "optional names 't', which is not a variable of the pattern"),
        ("where", 'at = "x"\nwhere', 13, "at names the parameter 'x'; name an output of a node of the pattern"),
        ("where", 'message = "{t}"\nwhere', 13, "unknown placeholder {t}"),
        ("where", 'message = "{x.size}"\nwhere', 13, "variable.field with one of value, shape"),
        ("where", 'message = "{x"\nwhere', 13, "is not a template"),
        ('    "zero(z)",\n]', '    "zero(z)",\n]\n[tie]\nsites = ["x"]', 17, "a rewrite or ties, not both"),
        ('    "zero(z)",\n]', '    "zero(z)",\n]\n[[example]]\ntitle = "t"\nbefor = "m"', 19, "unknown key 'befor'; did you mean 'before'?"),
        ('    "zero(z)",\n]', '    "zero(z)",\n]\n[[example]]\ntitle = "t"', 17, "example #1 lacks 'before'"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_file_line_and_what_to_write(
    load: Load, old: str, new: str, line: int, said: str
) -> None:
    assert load(GOOD).code == "MY201"
    assert GOOD.count(old) == 1
    with pytest.raises(RuleError) as error:
        load(GOOD.replace(old, new))
    assert f"my_rule.toml:{line}: " in str(error.value)
    assert said.replace("`", "") in str(error.value).replace("`", "")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('safety = "manual"\n', 1, "a rule needs a `pattern`, or ties"),
        ('safety = "lossy"\n[tie]\nsites = ["x"]\n', 1, "a rule needs a `pattern`, or ties"),
        ('safety = "lossy"\nwhere = ["scalar(s)"]\n[tie]\ntensors = ["x"]\n', 7, "`where` needs a `pattern`"),
        ('safety = "lossy"\n[tie]\ntensors = ["x"]\npolicy = "best"\n', 9, "unknown policy 'best'"),
        ('safety = "lossy"\npattern = "p (x) => (y) { y = Relu (x) }"\n[tie]\ntensors = ["x"]\n', 8, "write `sites`"),
        ('safety = "lossy"\npattern = "p (x) => (y) { y = Relu (x) }"\n[tie]\nsites = ["x", "k"]\n', 9, "'k' is not a variable"),
        ('safety = "lossy"\n[[tie]]\ntensors = ["x"]\n[[tie]]\npolicy = "max"\n', 9, "the tie names no sites"),
        ('safety = "manual"\npattern = "p (x, t) => (y, v) { y = Relu (x) v = Neg (t) }"\n', 7, "shares no variable with the rest"),
        ('safety = "manual"\npattern = "p (xs, x) => (y) { y = Concat (xs, x) }"\nvariadic = ["xs"]\n', 7, "put it last"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(load: Load, text: str, line: int, said: str) -> None:
    with pytest.raises(RuleError) as error:
        load(HEAD + text)
    assert f"my_rule.toml:{line}: " in str(error.value) and said in str(error.value)


def test_a_rule_file_executes_nothing(load: Load) -> None:
    with pytest.raises(RuleError, match="is not a condition"):
        load(GOOD.replace('"zero(z)"', "\"__import__('os').system('true')\""))
    with pytest.raises(RuleError, match="unknown placeholder"):
        load(GOOD.replace("where", 'message = "{x.__class__}"\nwhere'))


# The predicates


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


def test_messages_say_names_and_numbers(load: Load) -> None:
    rule = load(
        f'{HEAD}safety = "manual"\npattern = "p (x, s, z) => (q) {{ q = QuantizeLinear (x, s, z) }}"\n'
        'message = "{x} {x.shape} {x.bytes} {x.dtype} {x.op} {s.value} {{}}"\nhelp = "see {q}"\n'
    )
    (finding,) = rule.find(
        Graph(build("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Relu (x) y = t.conv4 (a, s1) }"))
    )
    assert (finding.message, finding.safety.value) == ("a 1x4x8x8 1,024 float Relu 0.1 {}", "manual")
    assert finding.help == f"see {finding.place}"


def test_values_of_any_size_are_compared_bit_for_bit() -> None:
    from qdqgraph.rulekit.text.match import same_value

    values = np.arange(8, dtype=np.float32)
    tensors: dict[str, np.ndarray] = {"a": values, "b": values.copy(), "c": values.astype(np.float64), "d": -values}
    model = build("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in tensors.items())
    graph = Graph(model)
    assert [same_value(graph, "a", n) for n in "abcd"] == [True, True, False, False]

"""Text rules: what a pattern matches, what a rewrite puts in its place, what a tie joins, how mistakes are answered."""

from collections.abc import Callable

import onnx
import pytest

import qdqgraph
from qdqgraph import RuleError
from qdqgraph.rulekit import Graph, Node
from qdqgraph.rulekit.text import TextRule
from tests.support.models import build, scales
from tests.support.text_rules import HEAD, Load, applied, ops, places

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

"""Repairs that would make the engine worse, by the forecast, are refused with their numbers; the rest is carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import pytest

import qdqgraph
from qdqgraph.errors import ModelError, RepairError
from qdqgraph.graph.graph import Graph
from qdqgraph.repair.guard import Outcome, Reasons, guarded
from qdqgraph.rulekit import Finding, Safety, Severity
from tests.support.cases import FOLDER, read
from tests.support.models import build, fixed, reads_pair
from tests.support.unquantize import Illegal, Unquantize

GATES = """g (float[1,4,8,8] x) => (float[1,4,8,8] y)
    <int8[4,1,1,1] wd = {{10, 20, 30, 40}}, float[4] sd = {{0.01, 0.01, 0.01, 0.01}},
     int8[4] zd = {{0, 0, 0, 0}}> {{
    c = t.conv4 (x, s1) p = t.pair (c, s2) a = {act} (p)
    i = t.pair (a, s3) k = DequantizeLinear <axis = 0> (wd, sd, zd) d = Conv <group = {group}> (i, k)
    q = t.pair (d, s2) b = {act} (q)
    y = t.conv4 (b, s4) }}"""
"""A convolution and a depthwise one, each followed by a pair and an activation of one operator."""


@pytest.mark.parametrize("activation", ["HardSwish", "Mish"])
def test_of_two_findings_of_one_rule_only_the_one_that_makes_it_worse_is_refused(activation: str) -> None:
    """x * f(x) fuses with a convolution, but not with a depthwise one (R20): there the pair keeps the tensor in INT8."""
    model = build(GATES.format(act=activation, group=4), opset=18)
    result = fixed(model)
    assert [(f.code, f.node.split("(")[0]) for f in result.applied] == [("QDQ301", "QuantizeLinear")]
    assert not reads_pair(result.model, "a", 0) and reads_pair(result.model, "b", 0)
    (left,) = result.left
    assert (
        left.code == "QDQ301"
        and left.refused == "would add 1,536 bytes a run, by the forecast; --also QDQ301 applies it"
    )
    assert result.int8 is not None
    before, after = result.int8
    assert after.int8 == before.int8 == 3 and after.bytes < before.bytes


@pytest.mark.parametrize("blocks", [1, 4])
def test_a_repair_that_costs_is_refused_although_those_of_other_blocks_gain_more(blocks: int) -> None:
    more = "".join(
        f"c{i} = t.conv4 (x{i}, s1) p{i} = t.pair (c{i}, s2) x{i + 1} = Relu (p{i})\n" for i in range(blocks)
    )
    text = GATES.format(act="HardSwish", group=4).replace(
        "c = t.conv4 (x, s1)", f"x0 = Identity (x) {more} c = t.conv4 (x{blocks}, s1)"
    )
    result = fixed(build(text, opset=18))
    assert [f.code for f in result.applied].count("QDQ301") == blocks + 1
    (left,) = result.left
    assert left.code == "QDQ301" and reads_pair(result.model, "b", 0)
    assert left.refused == "would add 1,536 bytes a run, by the forecast; --also QDQ301 applies it"
    assert fixed(result.model).model == result.model


def test_dynamic_dimensions_have_the_shapes_that_are_given_for_the_guard_alone() -> None:
    """Without them no byte is known, so none is added."""
    text = GATES.format(act="HardSwish", group=4).replace("float[1,4,8,8]", "float[n,4,h,w]")
    model = build(text, opset=18)
    unknown, known = fixed(model), fixed(model, shapes=("x:1x4x8x8",))
    assert not reads_pair(unknown.model, "b", 0) and reads_pair(known.model, "b", 0)
    (left,) = known.left
    assert "would add 1,536 bytes a run" in left.refused
    assert known.model.graph.input == model.graph.input and known.model.graph.output == model.graph.output
    static = fixed(build(GATES.format(act="HardSwish", group=4), opset=18))
    assert known.int8 == static.int8 and unknown.int8 != static.int8


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("x:1x4x8", "--shape x:1x4x8: the input has the shape nx4xhxw"),
        ("x:1x5x8x8", "--shape x:1x5x8x8: the input has the shape nx4xhxw"),
        ("z:1x4x8x8", "--shape z: the model has no such input"),
        ("x=1x4x8x8", "--shape x=1x4x8x8: use the format NAME:1x3x224x224"),
        ("x:1x4x-8x8", "--shape x:1x4x-8x8: use the format"),
    ],
)
def test_a_shape_that_does_not_fit_is_one_sentence(shape: str, message: str) -> None:
    text = GATES.format(act="HardSwish", group=4).replace("float[1,4,8,8]", "float[n,4,h,w]")
    with pytest.raises(ModelError) as error:
        qdqgraph.fix(build(text, opset=18), shapes=(shape,))
    assert message in str(error.value)


def test_a_pair_before_a_resize_that_a_float_add_reads_is_placed() -> None:
    """The sum that the Resize enlarges is stored once, as INT8, and the Add dequantizes what it reads (F4)."""
    case = read(FOLDER / "80-fpn-top-down.onnxtxt")
    result = qdqgraph.fix(case.model, qdqgraph.rules())
    assert {f.code for f in result.applied} >= {"QDQ201", "QDQ203"} and not result.left
    assert result.int8 is not None
    before, after = result.int8
    assert after.bytes < before.bytes and after.int8 == before.int8


TWO = "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = t.conv4 (x, s1) y = t.conv4 (a, s2) }"


def test_a_repair_that_takes_layers_out_of_int8_is_refused_with_their_number() -> None:
    model = build(TWO)
    result = qdqgraph.fix(model, [Unquantize()])
    assert result.model == model and not result.applied and not result.plan.edits
    reasons = [f.refused for f in result.left]
    why = "would take 1 of 2 weighted layers out of INT8, by the forecast; --also MY901 applies it"
    assert reasons == [why, why]


def test_an_error_is_repaired_whatever_it_costs() -> None:
    result = qdqgraph.fix(build(TWO), [Illegal()])
    assert len(result.applied) == 2 and not result.left
    assert result.int8 is not None and [share.int8 for share in result.int8] == [2, 0]


def test_a_repair_that_also_names_is_applied_whatever_it_costs() -> None:
    result = qdqgraph.fix(build(TWO), [Unquantize()], also=("MY901",))
    assert len(result.applied) == 2 and not result.left


def test_beside_an_error_what_is_no_error_may_not_take_layers_out_of_int8() -> None:
    """The given file is refused by TensorRT, so its bytes say nothing; its layers in INT8 count."""
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) <int8 three = {3}> {
        a = t.conv4 (x, s1) y = t.conv4 (a, s2)
        q = QuantizeLinear (x, s3, three) d = DequantizeLinear (q, s3, three) v = Relu (d) }"""
    result = qdqgraph.fix(build(text), [*qdqgraph.rules(select=["QDQ4"]), Unquantize()])
    assert {f.code for f in result.applied} == {"QDQ401"}
    assert {f.code for f in result.left if "out of INT8" in f.refused} == {"MY901"}
    assert result.int8 is not None and result.int8[0].refused == ("QDQ401",) and result.int8[1].refused == ()


Worse: TypeAlias = Callable[[set[str]], set[str]]
"""The places that are blamed, of those where findings were repaired."""


def stage(
    findings: Sequence[Finding],
    worse: Worse,
    hidden: Worse = lambda done: set(),
    bytes: Mapping[str, int] | None = None,
) -> tuple[list[str], set[str], str]:
    """The places of each attempt of a stage that applies what is not refused, what is refused in the end, and what the
    outcome applied; `hidden` are the doubted places, and `bytes` what each attempt costs."""
    attempts, graphs = list[str](), dict[int, str]()

    def attempt(refused: Reasons) -> Outcome:
        done = tuple(f for f in findings if f.identity not in refused)
        attempts.append("".join(f.place for f in done))
        graph = Graph(build(TWO))
        graphs[id(graph)] = attempts[-1]
        kept.append(graph)
        return Outcome(graph, done)

    def blamed(worse: Worse) -> Callable[[Outcome], Reasons]:
        def verdict(outcome: Outcome) -> Reasons:
            places = worse({f.place for f in outcome.applied})
            return {f.identity: "worse" for f in outcome.applied if f.place in places}

        return verdict

    def better(graph: Graph, other: Graph) -> bool:
        costs = bytes or {}
        return costs[graphs[id(other)]] < costs[graphs[id(graph)]]

    kept: list[Graph] = []
    outcome, refused = guarded(attempt, blamed(worse), blamed(hidden), better)
    return attempts, {place for _, place in refused}, "".join(f.place for f in outcome.applied)


def finding(place: str, code: str = "MY901") -> Finding:
    return Finding(code, "my-rule", Severity.WARNING, Safety.LOSSY, place, place, "is wrong")


def test_a_stage_runs_again_without_what_is_refused_and_only_then() -> None:
    findings = [finding(place) for place in "abc"]
    assert stage(findings, lambda done: set()) == (["abc"], set(), "abc")
    assert stage(findings, lambda done: {"b"}) == (["abc", "ac"], {"b"}, "ac")


def test_what_was_refused_only_for_the_company_of_a_later_refusal_is_applied() -> None:
    """The forecast blames a first, although b alone costs."""
    blamed = {"ab": {"a"}, "b": {"b"}}
    found = stage([finding("a"), finding("b")], lambda done: blamed.get("".join(sorted(done)), set()))
    assert found == (["ab", "b", "", "a"], {"b"}, "a")


def test_of_two_rules_that_are_refused_together_the_one_that_costs_nothing_alone_is_applied() -> None:
    findings = [finding("a", "MY901"), finding("b", "MY902")]
    found = stage(findings, lambda done: done if "b" in done else set())
    assert found == (["ab", "", "b", "", "a"], {"b"}, "a")


def test_without_fewer_refusals_the_first_result_counts() -> None:
    findings = [finding("a", "MY901"), finding("b", "MY902"), finding("c")]
    _, refused, applied = stage(findings, lambda done: done & {"a", "b"})
    assert refused == {"a", "b"} and applied == "c"


def test_what_costs_is_refused_although_other_repairs_gain_more() -> None:
    findings = [finding(place) for place in "abc"]
    found = stage(findings, lambda done: set(), lambda done: done & {"b"}, {"abc": 7, "ac": 5})
    assert found == (["abc", "ac"], {"b"}, "ac")


@pytest.mark.parametrize(("bytes", "worse"), [({"abc": 7, "ac": 7}, ""), ({"abc": 7, "ac": 5}, "a")])
def test_what_costs_is_applied_where_the_others_lose_without_it(bytes: dict[str, int], worse: str) -> None:
    """Nothing is gained, or another repair has to be refused."""
    findings = [finding(place) for place in "abc"]
    found = stage(findings, lambda done: set(worse) - done if "b" in done else set(worse), lambda done: {"b"}, bytes)
    assert found == (["abc", "ac"], set(), "abc")


SCALED = """g (float[1,4,8,8] x) => (float[1,4,8,8] y)
    <float three = {3}, float six = {6}, float low = {0}, float w = {1.5}, float b = {0.25}> {
    c = t.conv4 (x, s1) p = t.pair (c, s2) a = Add (p, three) k = Clip (a, low, six) i = t.pair (k, s3)
    m = Mul (p, i) h = Div (m, six) v = Mul (h, w) o = Add (v, b) y = t.conv4 (o, s4) }"""
"""A HardSwish with a learned scale and bias after it, and pairs before and inside the HardSwish."""


def test_a_pair_inside_an_activation_goes_where_the_pair_before_it_saves_bytes() -> None:
    """The scale and bias after the HardSwish end the kernel of the convolution in any case: with the pair before the
    HardSwish it writes INT8. The pair inside saves nothing."""
    model = build(SCALED, opset=18)
    result = fixed(model)
    assert reads_pair(result.model, "a", 0) and not reads_pair(result.model, "m", 1)
    (left,) = result.left
    assert left.code == "QDQ301" and "would add 1,536 bytes a run" in left.refused
    assert result.int8 is not None
    before, after = result.int8
    assert after.bytes == before.bytes and after.int8 == before.int8


def test_attempts_that_do_not_end_are_an_error_that_names_the_rules() -> None:
    names = iter(map(str, range(1000)))
    with pytest.raises(
        RepairError, match="QDQ905: after 20 attempts, repairs still make the engine worse; exclude MY901"
    ):
        guarded(
            lambda refused: Outcome(Graph(build(TWO)), (finding(next(names)),)),
            lambda outcome: {f.identity: "worse" for f in outcome.applied},
            lambda outcome: {},
            lambda graph, other: False,
        )


def test_also_does_not_apply_what_has_no_scale() -> None:
    """A Concat between INT8 layers runs in float, and the file has no scale for it (QDQ207)."""
    model = build(
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y)
        <float[8] one = {1,1,1,1,1,1,1,1}, float[8] nil = {0,0,0,0,0,0,0,0}> {
        a = t.conv4 (x, s1) b = t.conv4 (x, s1) c = Concat <axis = 1> (a, b)
        n = BatchNormalization (c, one, nil, nil, one) r = Relu (n) y = t.conv8 (r, s2) }"""
    )
    plain, asked = qdqgraph.fix(model), qdqgraph.fix(model, also=("QDQ207",))
    (left,) = [f for f in asked.left if f.code == "QDQ207"]
    assert "the graph has no scale for 'c'" in left.refused
    assert asked.model == plain.model

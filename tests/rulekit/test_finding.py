"""What identifies a finding, and the figures that it carries."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

import qdqgraph
from qdqgraph import Options
from qdqgraph.authoring.why import why
from qdqgraph.engines.forecast.cost import priced
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.model.text import parse
from qdqgraph.repair.rounds import fix
from qdqgraph.rulekit import Counterexample, Finding, Graph, PlacePair, Rule, Safety
from qdqgraph.rulekit.rule import scan
from qdqgraph.targets.target import Target
from tests.support.models import build

RULES = qdqgraph.rules()
X = "float[1,4,8,8]"
TWICE = f"g ({X} x) => ({X} y, {X} v) {{ a = Relu (x) y = t.conv4 (a, s1) v = t.conv4 (a, s2) }}"


class Chatty(Rule):
    """Says two things about every Relu.

    Why: to see what becomes of findings with one identity.
    """

    code, name, safety = "MY999", "chatty", Safety.MANUAL
    examples = ()

    def find(self, graph: Graph) -> Iterator[Finding]:
        for node in graph.nodes("Relu"):
            yield self.finding(node, "second", bytes=2)
            yield self.finding(node, "first", bits_lost=0.5)


def test_code_and_place_identify_a_finding_whatever_it_says_and_costs() -> None:
    graph = Graph(build(TWICE), target=Target.named("trt-8.6"))
    (found,) = scan(graph, [r for r in RULES if r.code == "QDQ104"])
    (costly,) = priced([found], forecast(graph, "m"))
    assert costly.bytes != found.bytes and costly.message == found.message
    assert costly.identity == found.identity == replace(found, message="in other words").identity == ("QDQ104", "a")


def test_findings_of_one_identity_are_all_kept_in_the_order_of_their_messages() -> None:
    graph = Graph(build(TWICE))
    first, second = scan(graph, [Chatty()])
    assert (first.message, second.message) == ("first", "second") and first.identity == second.identity
    assert why(graph, Chatty(), "a", [], Options()).lines == (
        "MY999 applies here: first; loses 0.50 bits of resolution",
        "MY999 applies here: second; costs 2 bytes a run",
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_built_in_rules_report_a_place_once(rule: Rule) -> None:
    for example in rule.examples:
        try:
            graph = Graph(parse(example.model if isinstance(example, Counterexample) else example.before))
        except ValueError as error:
            pytest.skip(f"this onnx is too old: {error}")
        counts = Counter(finding.identity for finding in scan(graph, RULES))
        assert set(counts.values()) <= {1}, (example.title, counts)


def test_an_add_with_two_float_operands_is_one_finding_that_repairs_what_it_can() -> None:
    """Of 'p' a scale is known, of 'r' none."""
    model = build(
        f"""g ({X} x, {X} z) => ({X} y, {X} u) {{
        p = Relu (x) r = Relu (z) u = t.conv4 (p, s1) a = Add (p, r) y = t.conv4 (a, s2) }}"""
    )
    result = fix(model, RULES)
    (applied,) = result.applied
    assert (applied.code, applied.place, applied.bytes) == ("QDQ201", "a", 2 * 4 * 256)
    assert applied.message == "the operands 'p' and 'r' of the residual Add are read as float"
    assert applied.help == "read 'p' through its pair, calibrate a quantizer for 'r'"
    (left,) = result.left
    assert left.identity == applied.identity and "'r'" in left.message and left.refused


def test_a_mul_with_two_float_operands_is_one_finding() -> None:
    model = build(
        f"""g ({X} x, {X} z) => ({X} y, {X} u, {X} w) {{
        p = Relu (x) r = Relu (z) u = t.conv4 (p, s1) w = t.conv4 (r, s2) a = Mul (p, r) y = t.conv4 (a, s3) }}"""
    )
    (found,) = (f for f in qdqgraph.check(model) if f.code == "QDQ204")
    assert found.message == "the Mul between INT8 layers reads 'p' and 'r' as float"
    assert found.help == "read 'p' through its pair, read 'r' through its pair"
    result = qdqgraph.fix(model)
    assert [f.identity for f in result.applied] == [("QDQ204", "a")] and not result.left


def test_a_tensor_of_which_two_skips_are_functions_is_one_finding() -> None:
    model = build(
        f"""g ({X} x) => ({X} y, {X} v, {X} u) <float two = {{2}}> {{
        p = Sigmoid (x) c = t.conv4 (p, s1) d = t.conv4 (p, s1) u = t.conv4 (p, s1)
        m = Mul (p, two) a = Add (c, m) y = t.conv4 (a, s2)
        n = Neg (p) b = Add (d, n) v = t.conv4 (b, s3) }}"""
    )
    (applied,) = (f for f in fix(model, RULES).applied if f.code == "QDQ209")
    (edit,) = applied.edits
    assert applied.place == "p" and isinstance(edit, PlacePair) and edit.readers == (("m", 0), ("n", 0))


def test_ties_carry_the_bits_that_they_lose_or_would_lose() -> None:
    model = build(TWICE)
    (taken,) = (f for f in qdqgraph.check(model) if f.tie)
    (refused,) = (f for f in qdqgraph.check(model, max_bits_lost=0.1) if f.tie)
    assert taken.repairable and refused.refused
    assert taken.bits_lost == refused.bits_lost == pytest.approx(0.1375, abs=1e-4)
    (change,) = qdqgraph.fix(model).changes
    assert change.lost == taken.bits_lost


PER_CHANNEL = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,4,4] x) => (float[1,2,4,4] y)
    <float[2] s = {0.1, 0.2}, int8[2] z = {0, 0}> {
    q = QuantizeLinear <axis = 1> (x, s, z) y = DequantizeLinear <axis = 1> (q, s, z) }"""


def one_pair(kind: str, zero: int) -> str:
    return f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1,1,4,4] x) => (float[1,1,4,4] y)
        <float s = {{0.1}}, {kind} z = {{{zero}}}> {{
        q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }}"""


@pytest.mark.parametrize(
    ("text", "code", "lost"),
    [
        (one_pair("int8", 3), "QDQ401", 0.0447),
        (one_pair("uint8", 100), "QDQ402", 0.2876),
        (one_pair("uint8", 128), "QDQ402", None),
        (PER_CHANNEL, "QDQ404", 1.0),
    ],
)
def test_a_legality_repair_carries_the_bits_that_it_loses(text: str, code: str, lost: float | None) -> None:
    (found,) = qdqgraph.fix(parse(text)).applied
    assert found.code == code
    assert found.bits_lost == (None if lost is None else pytest.approx(lost, abs=1e-3))
    assert "bits" not in found.message + found.help


def test_a_model_that_is_not_repaired_names_the_bits_in_its_error() -> None:
    with pytest.raises(qdqgraph.RepairError, match=r"quantize symmetrically; loses 0\.04 bits of resolution"):
        qdqgraph.fix(parse(one_pair("int8", 3)), exact=True)

"""The sample rules pass their own tests, and those of text and Python that say the same find the same."""

from __future__ import annotations

import pytest

import qdqgraph
from qdqgraph.authoring import testing
from qdqgraph.rulekit import Rule, catalog
from tests.support.models import build
from tests.support.paths import ROOT

RULES = {rule.code: rule for rule in catalog.load([ROOT / "samples" / "rules"], builtin=False, installed=False)}


def test_every_rule_of_the_folder_is_one_of_eight() -> None:
    assert sorted(RULES) == [f"SMP{n}" for n in (101, 102, 103, 201, 202, 203, 301, 401)]
    assert qdqgraph.rules([ROOT / "samples" / "rules"])  # beside the built-in rules


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_a_sample_rule_passes_its_tests(rule: Rule) -> None:
    assert [verdict.fault for verdict in testing.verdicts(rule) if verdict.fault] == []


def test_the_first_convolution_as_text_and_as_python() -> None:
    model = build("""g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[1,1,1,1] w = {0.5}, float sw = {0.01}, int8 z = {0}> {
        q = QuantizeLinear (x, s1, z) d = DequantizeLinear (q, s1, z)
        p = QuantizeLinear (w, sw, z) k = DequantizeLinear (p, sw, z) c = Conv (d, k) y = Relu (c) }""")
    text, python = (qdqgraph.fix(model, [RULES[code]], qdqgraph.Options(also=(code,))) for code in ("SMP202", "SMP203"))
    assert [n.op_type for n in text.model.graph.node] == ["Conv", "Relu"]
    assert testing.canonical(text.model) == testing.canonical(python.model)

"""The built-in rules keep their word: every example and counterexample is a test, and so is the documentation."""

import pytest

import qdqgraph
from qdqgraph.authoring.testing import Verdict, verdicts

CASES = [
    pytest.param(v, id=f"{rule.code}-{v.title}") for rule in qdqgraph.rules(installed=False) for v in verdicts(rule)
]


@pytest.mark.parametrize("verdict", CASES)
def test_rule(verdict: Verdict) -> None:
    assert not verdict.fault, f"{verdict.place}: {verdict.fault}"

"""The built-in rules keep their word: every example and counterexample is a test."""

import pytest

import qdqgraph
from qdqgraph import Counterexample, Example, Rule, testing

RULES = qdqgraph.rules()


CASES = [pytest.param(rule, e, id=f"{rule.code}-{e.title}") for rule in RULES for e in rule.examples]


@pytest.mark.parametrize(("rule", "example"), CASES)
def test_example(rule: Rule, example: Example | Counterexample) -> None:
    verdict = testing.judge(rule, example)
    assert not verdict, verdict


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_docstring_says_why_and_whence(rule: Rule) -> None:
    text = rule.__doc__ or ""
    assert text.splitlines()[0].endswith("."), "the first line is a sentence"
    assert "Why:" in text and "Source:" in text

"""Policies: how a group's scale is chosen, and that one class is all a new one takes."""

import itertools
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qdqgraph
from qdqgraph.repair.solver import solve
from qdqgraph.rulekit import Finding, Graph, Safety, Severity, Tie
from qdqgraph.rulekit import policy as policies
from qdqgraph.rulekit.policy import Policy, SiteScale
from tests.support.models import build

CHAIN = """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
    a = t.pair (x, s1)  b = Relu (a)  c = t.pair (b, s3)  d = Relu (c)  y = t.pair (d, s2) }"""
SITES = ("x", "b", "d")


class Smallest(Policy):
    """A policy that somebody adds to the module: one class."""

    name = "smallest"

    def prefer(self, a: SiteScale, b: SiteScale) -> SiteScale:
        return min(a, b, key=lambda s: (s.scale, s.site))


def tied(policy: str | None = None, run: str = "max") -> float | str:
    """The scale of the group that a tie over all sites makes, or why the tie is refused."""
    tie = Tie(SITES, policy)
    finding = Finding("MY101", "my-tie", Severity.WARNING, Safety.LOSSY, "x", "x", "", tie=tie)
    solution = solve(Graph(build(CHAIN)), [finding], policy=run, max_bits_lost=9)
    if solution.findings[0].refused:
        return solution.findings[0].refused
    (group,) = solution.groups
    assert group.scale is not None
    return round(float(group.scale), 6)


@pytest.mark.parametrize(
    ("policy", "scale"), [("max", 0.12), ("input", 0.1), ("output", 0.11), ("anchor:d", 0.11), ("fixed:0.5", 0.5)]
)
def test_a_policy_holds_for_a_run_and_for_one_tie(policy: str, scale: float) -> None:
    assert tied(run=policy) == scale
    assert tied(policy) == scale


def test_an_anchor_that_the_model_does_not_have_refuses_the_tie() -> None:
    assert tied("anchor:nowhere") == "policy anchor:nowhere: the model has no tensor 'nowhere'"


def test_a_new_policy_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "Smallest", Smallest, raising=False)
    assert Smallest in policies.kinds()
    assert tied("smallest") == 0.1
    assert policies.usages().endswith("fixed:VALUE, smallest")
    with pytest.raises(qdqgraph.RuleError, match="fixed:VALUE, smallest"):
        Policy.parse("least")


MEMBERS = st.lists(
    st.builds(SiteScale, st.integers(0, 3), st.text("abc", min_size=1, max_size=2), st.sampled_from([0.1, 0.2, 0.3])),
    min_size=1,
    max_size=4,
    unique_by=lambda s: s.site,
)


@given(MEMBERS)
def test_the_choice_does_not_depend_on_the_order_of_sites(members: list[SiteScale]) -> None:
    for policy in (Policy.parse(text) for text in ("max", "input", "output", "anchor:a", "fixed:1")):
        assert len({reduce(policy.prefer, order) for order in itertools.permutations(members)}) == 1


@pytest.mark.parametrize("text", ["max:", "max:1", "anchor", "anchor:", "fixed:0", "fixed:inf", "fixed:x", "", "MAX"])
def test_what_is_not_a_policy_is_refused(text: str) -> None:
    with pytest.raises(qdqgraph.RuleError, match=r"policy"):
        Policy.parse(text)
    with pytest.raises(qdqgraph.RuleError):
        qdqgraph.fix(build(CHAIN), policy=text)


@pytest.mark.parametrize("text", ["max", "input", "output", "anchor:a:b", "fixed:0.05"])
def test_a_policy_is_written_as_it_is_read(text: str) -> None:
    assert str(Policy.parse(text)) == text

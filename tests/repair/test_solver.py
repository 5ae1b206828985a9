"""The solver: which ties are taken where the guard does not allow all of them."""

import itertools

import pytest

from qdqgraph.repair.solver import solve
from qdqgraph.rulekit import Finding, Graph, Safety, Severity, Tie
from tests.support.models import build

TEXT = """g (float[1,4,8,8] x) => (float[1,4,8,8] u, float[1,4,8,8] v, float[1,4,8,8] w) {
    a = Relu (x) b = Neg (x) c = Abs (x)
    u = t.conv4 (a, s1) v = t.conv4 (b, s3) w = t.conv4 (c, s5) }"""
"""Three sites with the scales 0.1, 0.12 and 0.14."""


def tie(place: str, *sites: str, bytes: int = 0) -> Finding:
    return Finding(
        "MY101", "mine", Severity.WARNING, Safety.LOSSY, place, place, "they differ", bytes=bytes, tie=Tie(sites)
    )


@pytest.mark.parametrize(("first", "second", "taken"), [(100, 200, {"b", "c"}), (200, 100, {"a", "b"})])
def test_of_two_ties_that_exclude_each_other_the_one_that_saves_more_bytes_is_taken(
    first: int, second: int, taken: set[str]
) -> None:
    """Either tie costs less than 0.3 bits (log2(0.12 / 0.1), log2(0.14 / 0.12)); together they cost log2(0.14 / 0.1)."""
    findings = [tie("u", "a", "b", bytes=first), tie("v", "b", "c", bytes=second)]
    for order in itertools.permutations(findings):
        solution = solve(Graph(build(TEXT)), order, max_bits_lost=0.3)
        assert [set(group.sites) for group in solution.groups] == [taken]
        (refused,) = [f for f in solution.findings if f.refused]
        assert refused.bits_lost == pytest.approx(0.485, abs=0.001)


def test_of_two_ties_that_save_as_much_the_first_by_code_and_place_is_taken() -> None:
    for order in itertools.permutations([tie("u", "a", "b"), tie("v", "b", "c")]):
        (group,) = solve(Graph(build(TEXT)), order, max_bits_lost=0.3).groups
        assert set(group.sites) == {"a", "b"}

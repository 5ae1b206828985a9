"""What `diff` says of two models: pairs that came and went, scales that changed, readers that see other values."""

import pytest

from qdqgraph.graph.graph import Graph
from qdqgraph.verify.difference import differences
from tests.support.models import build

TEXT = """g (float[1,4,8,8] x) => (float[1,4,8,8] y, float[1,4,8,8] v) {
    a = Relu (x)
    y = t.conv4 (a, s1)
    LAST
}"""
RAW, PAIRED = TEXT.replace("LAST", "v = Neg (a)"), TEXT.replace("LAST", "d = t.pair (a, s1) v = Neg (d)")


def lines(before: str, after: str) -> list[str]:
    return list(differences(Graph(build(before)), Graph(build(after))))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (RAW, RAW, []),
        (RAW, RAW.replace("s1", "s2"), ["~ 'a': scale 0.1 -> 0.11"]),
        (RAW, PAIRED, ["~ 'a': consumer v[0] is now quantized"]),
        (PAIRED, RAW, ["~ 'a': consumer v[0] is now unquantized"]),
    ],
    ids=["nothing", "another scale", "a quantized consumer more", "a quantized consumer less"],
)
def test_a_site_that_keeps_a_pair(before: str, after: str, expected: list[str]) -> None:
    assert lines(before, after) == expected


def test_a_pair_that_goes_and_one_that_comes() -> None:
    bare = RAW.replace("t.conv4 (a, s1)", "Sigmoid (a)")
    assert lines(RAW, bare)[0] == "- 'a': pair with scale 0.1"
    assert lines(bare, RAW)[0] == "+ 'a': pair with scale 0.1"

"""The front: what nothing is better than in time and in quality."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qdqgraph.search.front import Measured, front, spread_out
from qdqgraph.search.gains import dominated
from tests.support.searching import point

points = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20).map(
    lambda pairs: [point(i, float(ms), float(db)) for i, (ms, db) in enumerate(pairs)]
)


@given(points)
def test_the_front_has_all_that_nothing_dominates_once(found: list[Measured]) -> None:
    ahead = front(found, found[0].found)
    for one in found:
        better = [o for o in found if dominated(one.found, o.found)]
        same = [o for o in ahead if (o.found.ms, o.found.quality) == (one.found.ms, one.found.quality)]
        assert bool(same) == (not better)
    assert [m.found.ms for m in ahead] == sorted({m.found.ms for m in ahead})


@given(points, st.integers(1, 10))
def test_a_choice_from_the_front_keeps_its_ends(found: list[Measured], count: int) -> None:
    ahead = front(found, found[0].found)
    chosen = spread_out(ahead, count)
    assert len(chosen) == min(count, len(ahead))
    assert chosen[0] == ahead[0] and (count == 1 or chosen[-1] == ahead[-1])

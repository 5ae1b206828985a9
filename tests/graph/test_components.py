"""Connected components: what shares a member, directly or through others, is one; in the order of the sets."""

from hypothesis import given
from hypothesis import strategies as st

from qdqgraph.graph.components import components


def test_sets_that_share_members_through_others_are_one_component() -> None:
    assert components([{"a"}, {"b", "c"}, set(), {"c", "d"}, {"a", "x"}, {"d"}]) == [[0, 4], [1, 3, 5], [2]]
    assert components([]) == []


@given(st.lists(st.frozensets(st.integers(0, 12), max_size=3), max_size=12))
def test_components_are_the_smallest_groups_without_a_common_member(sets: list[frozenset[int]]) -> None:
    found = components(sets)
    assert sorted(index for mine in found for index in mine) == list(range(len(sets)))
    assert found == sorted(map(sorted, found))
    unions = [frozenset().union(*(sets[i] for i in mine)) for mine in found]
    assert sum(map(len, unions)) == len(frozenset().union(*unions))
    for mine in found:
        reached = {mine[0]}
        while more := {i for i in mine if i not in reached and any(sets[i] & sets[j] for j in reached)}:
            reached |= more
        assert reached == set(mine)

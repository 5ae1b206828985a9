"""What a budget chooses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qdqgraph.errors import ModelError
from qdqgraph.search.budget import Budget
from qdqgraph.search.found import Found
from qdqgraph.search.front import Measured
from tests.support.searching import level, point


def test_a_budget_takes_the_fastest_or_the_most_accurate() -> None:
    slow, quick, base = point(1, 5, 30), point(2, 2, 10), point(3, 3, 20)
    floats = Found(6, 0, level(144), level(144))

    def best(budget: Budget) -> Measured:
        return budget.ranked((slow, quick, base), base.found, floats)[0]

    assert best(Budget()) == base
    assert best(Budget(least_db=5)) == quick
    assert best(Budget(least_db=25)) == slow
    assert best(Budget(least_speed=2)) == base
    assert best(Budget(least_speed=3)) == quick
    assert best(Budget(most_slower=50)) == base
    assert best(Budget(most_slower=70)) == slow
    assert not Budget(least_db=31).ranked((slow, quick, base), base.found, floats)


def test_a_budget_is_kept_on_the_held_back_samples_too() -> None:
    lucky, sound = point(1, 1, 30, held=10), point(2, 2, 26, held=26)
    assert Budget(least_db=25).ranked((lucky, sound), sound.found, sound.found)[0] == sound


def test_without_a_clock_no_slower_means_no_more_bytes_either() -> None:
    base, floats = point(1, 2.0, 20), point(2, 1.9, 40)
    larger = replace(floats, found=replace(floats.found, bytes=1))
    assert Budget().ranked((base, larger), base.found, floats.found) == (base,)
    assert Budget().ranked((base, larger), base.found, floats.found, clocked=True)[0] == larger
    assert Budget(least_speed=0.9).ranked((base, larger), base.found, floats.found)[0] == larger
    assert Budget(most_slower=0).ranked((base, larger), base.found, floats.found)[0] == larger


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"least_db": 1.0, "least_speed": 1.0}, "give one of --budget-db, --max-drop, --min-speed and --max-slower"),
        ({"most_drop": -1.0}, "a drop of -1.0: give how much of the score may be lost, 0 or more"),
        ({"least_speed": 0.0}, "a speed of 0.0: give how many times faster, above 0"),
        ({"most_slower": -1.0}, "-1.0 percent slower: give 0 or more"),
        ({"most_drop": float("nan")}, "a drop of nan"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(budget: dict[str, float], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Budget(**budget)

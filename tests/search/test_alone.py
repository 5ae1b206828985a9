"""What each decision alone changes."""

from __future__ import annotations

from qdqgraph.search.alone import Alone, alone_of
from qdqgraph.search.decisions import FLOAT, Decision
from qdqgraph.search.found import Found
from qdqgraph.verify.sensitivity.levels import Sampled

BEFORE = Sampled(20, {"y": 20}, None, (20, 20))
BASE = Found(2, 0, BEFORE, None)


class Given:
    """A start with these decisions."""

    name = "s"

    def __init__(self, *decisions: Decision) -> None:
        self.decisions = decisions


def alone(*results: Found, base: Found = BASE) -> list[Alone]:
    """What decisions change alone that have these results."""
    start = Given(*(Decision(str(number), FLOAT) for number in range(len(results))))
    return alone_of(start, base, lambda asked, held: [*results])  # type: ignore[arg-type]


def test_a_decision_that_changes_neither_time_nor_outputs_is_left_out() -> None:
    """A unit that only moves data is often such a one."""
    noisy = Sampled(10, {"y": 10}, None, (10, 10))
    found = alone(Found(2, 0, BEFORE, None), Found(1, 0, BEFORE, None), Found(2, 0, noisy, None))
    assert [(a.decision.subject, a.slower, a.better) for a in found] == [("1", -1, 0), ("2", 0, -9)]


def test_without_a_floating_point_output_the_score_says_what_is_better() -> None:
    before, after = Sampled(None, {}, 0.8), [Sampled(None, {}, score) for score in (0.84, 0.76, 0.802)]
    found = alone(*(Found(2, 0, level, None) for level in after), base=Found(2, 0, before, None))
    assert [(a.decision.subject, round(a.better, 6), a.sure) for a in found] == [("0", 0.04, True), ("1", -0.04, False)]

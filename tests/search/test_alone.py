"""What each decision alone changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from qdqgraph.search.alone import Alone, Ask, alone_of
from qdqgraph.search.budget import Budget
from qdqgraph.search.decisions import AS_IS, FLOAT, MULTIPLES, Candidate, Decision
from qdqgraph.search.found import Found, How
from qdqgraph.search.front import Measured
from qdqgraph.search.trials import Trials, choices
from qdqgraph.search.walk import searched
from qdqgraph.verify.sensitivity.levels import Sampled
from tests.support.searching import level

BEFORE = Sampled(20, {"y": 20}, None, (20, 20))
BASE = Found(2, 0, BEFORE, None)


class Given:
    """A start with these decisions."""

    name = "s"

    def __init__(self, *decisions: Decision) -> None:
        self.decisions = decisions


def asking(results: Mapping[Decision, Found], asked: list[Decision] | None = None) -> Ask:
    """Measures decisions, which have these results; lists what it was asked."""

    def ask(candidates: Sequence[Candidate], *, how: How) -> list[Found]:
        decisions = [candidate.decisions[0] for candidate in candidates]
        assert all((how == How.ALONE) == (d.option != FLOAT) for d in decisions)
        if asked is not None:
            asked.extend(decisions)
        return [results[decision] for decision in decisions]

    return ask


def alone(*results: Found, base: Found = BASE) -> list[Alone]:
    """What decisions change alone that have these results."""
    given = {Decision(str(number), FLOAT): found for number, found in enumerate(results)}
    return alone_of(Given(*given), base, asking(given))  # type: ignore[arg-type]


def test_a_scale_goes_up_and_down_from_that_of_the_start_while_each_step_removes_noise() -> None:
    """Each site alone has half of the noise of the start: a step to x0.84 removes some of it, one to x0.71 more, and
    one to x0.59 hardly any."""
    db = {"x0.59": 25.05, AS_IS: 23, "x0.84": 24, "x0.71": 25, "x1.19": 22}
    results = {
        Decision("s", option): Found(2, 0, level(value, value, value + 0.1), None) for option, value in db.items()
    }
    start, asked = Given(*(Decision("s", option) for option in MULTIPLES)), list[Decision]()
    (found,) = alone_of(start, BASE, asking(results, asked))  # type: ignore[arg-type]
    assert (found.decision, found.slower, found.sure) == (Decision("s", "x0.71"), 0, True)
    assert found.better == pytest.approx(10**-0.3 - 10**-0.5)
    assert [d.option for d in asked] == [AS_IS, "x1.19", "x0.84", "x0.71", "x0.59"]


def test_scales_that_gain_alone_but_not_together_are_left(tmp_path: Path) -> None:
    """The clipping errors of two tensors may cancel. What was measured before an interruption is not measured again, and
    the result is the same."""
    start = Given(*(Decision(site, option) for site in "ab" for option in MULTIPLES))
    memory = f"sqlite:///{tmp_path / 'trials.db'}"
    calls: list[tuple[Candidate, How]] = []
    interrupted = 7

    def measure(candidate: Candidate, how: How) -> Found:
        if len(calls) == interrupted:
            raise KeyboardInterrupt
        calls.append((candidate, how))
        changed = [d for d in candidate.decisions if d.option == "x1.19"]
        db = (24 if changed else 23) if how == How.ALONE else 20 - len(changed)
        return Found(2, 0, level(db, db, db + 0.1), level(db, db, db + 0.1) if how == How.BOTH else None)

    def search() -> tuple[Measured, ...]:
        trials = Trials(memory, "t", "run", choices({"s": start.decisions}))
        return searched([start], partial(trials.measured, measure=measure), seed=0, trials=0)  # type: ignore[list-item]

    with pytest.raises(KeyboardInterrupt):
        search()
    first = [*calls]
    calls.clear()
    interrupted = -1
    found = search()
    assert not {*first} & {*calls}
    together = Candidate("s", (Decision("a", "x1.19"), Decision("b", "x1.19")))
    assert {m.candidate for m in found} == {Candidate("s"), together.without(together.decisions[1]), together}
    base = found[0]
    assert Budget().ranked(found, base.found, base.found)[0] == base
    again = search()
    assert again == found


def test_a_decision_that_changes_neither_time_nor_outputs_is_left_out() -> None:
    """A unit that only moves data is often such a one."""
    noisy = Sampled(10, {"y": 10}, None, (10, 10))
    found = alone(Found(2, 0, BEFORE, None), Found(1, 0, BEFORE, None), Found(2, 0, noisy, None))
    assert [(a.decision.subject, a.slower, a.better) for a in found] == [("1", -1, 0), ("2", 0, -9)]


def test_without_a_floating_point_output_the_score_says_what_is_better() -> None:
    before, after = Sampled(None, {}, 0.8), [Sampled(None, {}, score) for score in (0.84, 0.76, 0.802)]
    found = alone(*(Found(2, 0, level, None) for level in after), base=Found(2, 0, before, None))
    assert [(a.decision.subject, round(a.better, 6), a.sure) for a in found] == [("0", 0.04, True), ("1", -0.04, False)]

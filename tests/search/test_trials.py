"""The memory of a search: what survives, and what processes share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from qdqgraph.errors import ModelError
from qdqgraph.search.decisions import FLOAT, Candidate, Decision
from qdqgraph.search.found import Found, How
from qdqgraph.search.trials import Trials, choices, opened
from tests.support.searching import level, point

CHOICES = choices({"s": [Decision(str(i), FLOAT) for i in range(40)]})


def storage(folder: Path) -> str:
    return f"sqlite:///{folder / 'trials.db'}"


def candidates(count: int = 20) -> list[Candidate]:
    return [point(i, 1, 1).candidate for i in range(count)]


def measure(calls: list[Candidate], stop: int = 1000) -> Callable[[Candidate, How], Found]:
    def run(candidate: Candidate, how: How) -> Found:
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(candidate)
        return Found(float(candidate.decisions[0].subject) + 1, 0, level(1), level(2) if how == How.BOTH else None)

    return run


def test_what_was_measured_is_not_measured_again_and_an_interrupted_search_goes_on(tmp_path: Path) -> None:
    first: list[Candidate] = []
    with pytest.raises(KeyboardInterrupt):
        Trials(storage(tmp_path), "t", "run", CHOICES).measured(candidates(), measure(first, 7), how=How.BOTH)
    second: list[Candidate] = []
    found = Trials(storage(tmp_path), "t", "run", CHOICES).measured(candidates(), measure(second), how=How.BOTH)
    assert [f.ms for f in found] == [float(i + 1) for i in range(20)]
    assert sorted(first + second) == sorted(candidates())
    third: list[Candidate] = []
    assert Trials(storage(tmp_path), "t", "run", CHOICES).measured(candidates(), measure(third), how=How.BOTH) == found
    assert not third


def test_a_trial_that_another_process_has_finished_meanwhile_is_no_error(tmp_path: Path) -> None:
    """SQLite locks no rows: two processes may be given the same waiting trial."""
    trials = Trials(storage(tmp_path), "t", "run", CHOICES)

    def run(candidate: Candidate, how: How) -> Found:
        other = opened(storage(tmp_path), "t", create=False)
        for trial in other.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING":
                other.tell(trial.number, [1.0, 1.0])
        return measure([])(candidate, how)

    found = trials.measured(candidates(3), run, how=How.BOTH)
    assert [f.ms for f in found] == [1.0, 2.0, 3.0]
    later: list[Candidate] = []
    assert trials.measured(candidates(3), measure(later), how=How.BOTH) == found and not later


def test_a_storage_of_another_run_is_refused(tmp_path: Path) -> None:
    Trials(storage(tmp_path), "t", "run", CHOICES)
    with pytest.raises(ModelError, match="has a search of another model, other data or other options"):
        Trials(storage(tmp_path), "t", "other", CHOICES)


def test_a_storage_that_cannot_be_opened_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be opened"):
        Trials("sqlite:////no/such/folder/x.db", "t", "run", CHOICES)

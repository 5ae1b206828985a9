"""Scales changed step by step in the quantized network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

pytest.importorskip("optuna")

from qdqgraph.search.decisions import APART, FLOAT, MULTIPLES, Candidate, Decision
from qdqgraph.search.found import Found, How
from qdqgraph.search.together import together
from tests.support.searching import level

START = Candidate("s")
Quality = Callable[[dict[str, float]], tuple[float, float]]
"""The factors of the scales that differ from the start → the SQNR of the two samples of each half."""


class Network:
    """A network with the scales a and b, whose sites alone have half of its noise unless their dB are given; lists what
    is measured on the samples of the search."""

    def __init__(self, quality: Quality, held: Quality | None = None, alone: tuple[float, float] = (23, 23)) -> None:
        self.quality, self.other = quality, held or quality
        self.alone = dict(zip("ab", alone, strict=True))
        self.found: dict[Candidate, Found] = {}
        self.asked: list[Candidate] = []
        self.decisions = [Decision(site, option) for site in "ab" for option in (*MULTIPLES, APART, FLOAT)]

    def ask(self, candidates: Sequence[Candidate], *, how: How) -> list[Found]:
        """Measures candidates."""
        if how == How.ALONE:
            return [Found(2, 0, level(self.alone[c.decisions[0].subject]), None) for c in candidates]
        if how == How.SEARCHED:
            self.asked += candidates
        return [self._measured(candidate) for candidate in candidates]

    def measure(self, candidates: Iterable[Candidate]) -> None:
        """Measures candidates on both halves."""
        self.found |= {candidate: self._measured(candidate) for candidate in candidates}

    def settled(self, now: Candidate = START) -> Candidate:
        """What `together` makes of a candidate."""
        self.measure([START, now])
        return together(now, START, self.decisions, self.found, self.ask, self.measure)

    def _measured(self, candidate: Candidate) -> Found:
        factors = {d.subject: MULTIPLES[d.option] for d in candidate.decisions if d.option in MULTIPLES}
        one, other = self.quality(factors), self.other(factors)
        return Found(2, 0, level(sum(one) / 2, *one), level(sum(other) / 2, *other))


def options(candidate: Candidate) -> dict[str, str]:
    """The decisions of a candidate."""
    return {d.subject: d.option for d in candidate.decisions}


def test_each_scale_takes_steps_while_the_network_surely_gains() -> None:
    """a is best three steps up, b where it is. In the second round only a is measured, which gave hope in the first."""

    def quality(factors: dict[str, float]) -> tuple[float, float]:
        db = 20 - 8 * abs(factors.get("a", 1) - 2 ** (3 / 4)) - abs(factors.get("b", 1) - 1)
        return db, db + 0.01

    network = Network(quality)
    assert options(network.settled()) == {"a": "x1.68"}
    assert [options(c) for c in network.asked[:4]] == [{"a": "x0.84"}, {"a": "x1.19"}, {"b": "x0.84"}, {"b": "x1.19"}]
    assert all("b" not in options(c) for c in network.asked[4:])


def test_a_gain_within_its_standard_errors_is_an_accident() -> None:
    network = Network(lambda factors: (20 + 3 * bool(factors), 20 - bool(factors)))
    assert network.settled() == START


def test_a_gain_that_the_held_back_samples_deny_is_an_accident() -> None:
    network = Network(
        lambda factors: (20 + len(factors), 20.1 + len(factors)), lambda factors: (20 - len(factors), 20.0)
    )
    assert network.settled() == START


def test_of_two_steps_that_gain_but_not_together_the_surest_is_taken() -> None:
    """Both make up for the same error, and together overshoot."""

    def quality(factors: dict[str, float]) -> tuple[float, float]:
        up = {site for site, factor in factors.items() if factor > 1}
        db = {0: 20.0, 1: 22.0 if "b" in up else 21.0, 2: 18.0}[len(up)] - (len(factors) - len(up))
        return db, db + 0.01

    assert options(Network(quality).settled()) == {"b": "x1.19"}


def test_a_step_back_to_the_scale_of_the_start_leaves_no_decision() -> None:
    """The scale of a was chosen with nothing else quantized."""
    network = Network(lambda factors: (20 - len(factors), 20.1 - len(factors)))
    assert network.settled(START.with_(Decision("a", "x1.19"))) == START


def test_sites_that_are_apart_keep_their_scales() -> None:
    network = Network(lambda factors: (20.0, 20.0))
    now = START.with_(Decision("a", APART))
    assert network.settled(now) == now
    assert {d.subject for c in network.asked for d in c.decisions if d not in now.decisions} == {"b"}


def test_scales_without_a_part_in_the_noise_are_not_measured() -> None:
    network = Network(lambda factors: (20.0, 20.0), alone=(23, 40))
    network.settled()
    assert {d.subject for c in network.asked for d in c.decisions} == {"a"}

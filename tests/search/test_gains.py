"""What counts as a gain, in dB and in a score."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdqgraph.search.budget import Budget
from qdqgraph.search.found import Found
from qdqgraph.search.front import front
from qdqgraph.search.gains import SCORE_NOISE, dominated, gained
from tests.support.searching import level, point, scored


def test_a_gain_counts_as_far_as_both_halves_have_it() -> None:
    base, lucky, sound = point(1, 2, 20, held=18), point(2, 2, 26, held=17), point(3, 2, 21, held=19)
    assert gained(lucky.found, base.found) == -1 and gained(sound.found, base.found) == 1
    assert Budget().ranked((base, lucky, sound), base.found, base.found) == (sound, base, lucky)
    assert front((base, lucky, sound), base.found) == (sound,)


def test_of_an_output_that_ends_in_a_softmax_the_gain_before_it_counts() -> None:
    base = Found(1, 0, level(20), level(20), (level(30, 30, 32), level(30, 30, 32)))
    after = Found(1, 0, level(25), level(19), (level(31, 31, 33), level(31, 31, 33)))
    assert gained(after, base) == 1 and after.quality == 25
    assert not dominated(after, base)


def test_a_gain_that_its_standard_error_exceeds_is_none() -> None:
    base, steady, chance = (
        Found(1, 0, level(20, 20, 22), level(20, 18, 20)),
        Found(1, 0, level(22, 22, 24), level(22, 20, 22)),
        Found(1, 0, level(24, 40, 12), level(24, 15, 25)),
    )
    assert gained(steady, base) == 2
    assert gained(chance, base) < 0 == gained(base, base)


def test_a_score_that_gains_while_the_samples_lose_is_an_accident() -> None:
    base, lucky, sound = scored(2, 0.8, 20, 22), scored(1, 0.9, 19, 20), scored(3, 0.85, 21, 23)
    assert gained(lucky.found, base.found) == 0 < gained(sound.found, base.found)
    assert Budget().ranked((lucky, base), base.found, base.found) == (base, lucky)


@pytest.mark.parametrize("difference", [0.0025, 0.0, -0.0025])
def test_scores_within_their_noise_above_or_below_are_equal_and_the_samples_decide(difference: float) -> None:
    """Five of 2,000 inputs more or less are right: an accident."""
    base, chance, worse = (
        scored(3, 0.8665, 20, 22),
        scored(1, 0.8665 + difference, 19.5, 22.5),
        scored(4, 0.8665, 18, 21),
    )
    sound = scored(2, 0.8665 + difference, 21.5, 24.5)
    assert Budget().ranked((base, worse, chance, sound), base.found, base.found) == (sound, base, chance, worse)
    assert gained(sound.found, base.found) > 0 == gained(base.found, base.found) > gained(worse.found, base.found)
    assert not dominated(sound.found, base.found) and dominated(worse.found, base.found)


@given(st.floats(-0.2, 0.2), st.floats(-6, 6))
def test_a_score_beyond_its_noise_decides_alone_what_is_worse(difference: float, db: float) -> None:
    base, other = scored(1, 0.8, 20, 20), scored(2, 0.8 + difference, 20 + db, 20 + db)
    if abs(difference) > 2 * SCORE_NOISE:
        assert dominated(other.found, base.found) == (difference < 0)
    if difference < -2 * SCORE_NOISE:
        assert gained(other.found, base.found) == pytest.approx(difference)
    assert not (dominated(other.found, base.found) and dominated(base.found, other.found))

"""How the outputs of two models agree: bit for bit, as SQNR in dB, or not at all."""

import math

import numpy as np
import pytest

from qdqgraph.calibration.agreement import Agreement, agreement

HALVES = np.array([0.5, -0.5, 0.5, -0.5], np.float32)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (HALVES.copy(), Agreement(math.inf, True)),
        (HALVES * np.float32(1.1), Agreement(20.0, False)),
        (HALVES.astype(np.float16), Agreement(math.inf, False)),
        (HALVES[:2], Agreement(-math.inf, False, "its shape is [2] instead of [4]")),
        (HALVES.astype(np.int64), Agreement(-math.inf, False)),
        (np.array([0.5, -0.5, 0.5, np.nan], np.float32), Agreement(math.nan, False)),
    ],
    ids=["equal", "a tenth off", "FP16 of the same values", "other shape", "other kind of number", "NaN"],
)
def test_one_sample(found: np.ndarray, expected: Agreement) -> None:
    got = agreement([HALVES], [found])
    assert (got.identical, got.caveat) == (expected.identical, expected.caveat)
    assert got.sqnr == pytest.approx(expected.sqnr, abs=1e-5, nan_ok=True)


def test_nan_where_the_reference_has_it_is_agreement() -> None:
    broken = np.array([np.nan, 1], np.float32)
    assert agreement([broken], [broken.copy()]).identical


def test_zero_and_minus_zero_are_equal_numbers_and_different_bits() -> None:
    zero = np.zeros(3, np.float32)
    assert agreement([zero], [-zero]) == Agreement(math.inf, False, "all values are 0, compares little")


def test_samples_count_together() -> None:
    """Signal and noise are summed over all samples: 10 log10((4 + 400) / (0.04 + 0))."""
    ones, tens = np.ones(4, np.float32), np.full(4, 10, np.float32)
    found = agreement([ones, tens], [ones * np.float32(1.1), tens])
    assert found.sqnr == pytest.approx(10 * math.log10(404 / 0.04), abs=1e-3)

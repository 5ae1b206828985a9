"""Errors from a histogram are those of the values; methods choose scales for sites together."""

from __future__ import annotations

import numpy as np
import pytest

from qdqgraph.calibration.statistics.counting import Counter
from qdqgraph.calibration.statistics.scales import AUTO, best_scale, error, errors
from qdqgraph.calibration.statistics.spread import Spread
from qdqgraph.errors import CalibrationError


def spread(values: np.ndarray) -> Spread:
    counter = Counter()
    counter.add(values.astype(np.float32))
    return counter.spread()


def true_error(values: np.ndarray, scale: float) -> float:
    exact = values.astype(np.float32).astype(np.float64)
    return float(np.mean((exact - np.clip(np.rint(exact / scale), -128, 127) * scale) ** 2))


RANDOM = np.random.default_rng(0)
VALUES = {
    "normal": RANDOM.standard_normal(200_000),
    "after relu": np.maximum(RANDOM.standard_normal(200_000), 0),
    "negative": -np.abs(RANDOM.standard_normal(200_000)),
    "silu": (lambda x: x / (1 + np.exp(-x)))(RANDOM.standard_normal(200_000) * 3),
    "heavy tails": RANDOM.standard_normal(200_000) ** 5,
    "outlier": np.append(RANDOM.standard_normal(200_000), 5000),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("ratio", [4, 1, 0.3, 0.05, 0.004])
def test_the_error_of_a_histogram_is_that_of_the_values(kind: str, ratio: float) -> None:
    """Where nearly all values lie in a few bins and round to zero, it is too large by less than a factor of 2."""
    found = spread(VALUES[kind])
    scale, values = found.amax / 127 * ratio, VALUES[kind]
    true = true_error(values, scale)
    if np.mean(np.abs(values[values != 0]) < scale / 2) > 0.9:
        assert 0.95 < error(found, scale) / true < 2
    else:
        assert error(found, scale) == pytest.approx(true, rel=0.05)


def test_the_lowest_integer_is_used_as_quantize_linear_does() -> None:
    values = np.full(1000, -128.0)
    assert error(spread(values), 1.0) < 0.01 < 0.9 < error(spread(-values), 1.0)


def test_zeros_have_no_error_at_any_scale() -> None:
    assert error(spread(np.append(np.zeros(1000), 64.0)), 1e4) == pytest.approx(64.0**2 / 1001, rel=0.001)
    assert error(spread(np.zeros(5)), 1.0) == 0


def test_mse_finds_the_least_error_of_all_scales() -> None:
    for kind, values in VALUES.items():
        found = spread(values)
        every = found.amax / 127 * np.geomspace(1 / 4000, 1, 3000)
        least = errors(found, every).min()
        assert error(found, best_scale([found], "mse").scale) == pytest.approx(least, rel=1e-3), kind


def test_the_scale_of_sites_together_weighs_each_site() -> None:
    narrow, wide = spread(VALUES["outlier"]), spread(VALUES["normal"] * 10)
    scales = {m: best_scale([narrow, wide], m).scale for m in ("mse", "max", "percentile", "entropy")}
    assert best_scale([wide], "mse").scale < scales["mse"] < best_scale([narrow], "max").scale
    assert min(scales, key=lambda m: error(narrow, scales[m]) + error(wide, scales[m])) == "mse"


def test_max_does_not_clip_and_percentile_clips_what_it_says() -> None:
    found = [spread(VALUES["normal"]), spread(VALUES["heavy tails"])]
    choice = best_scale(found, "max")
    assert choice.scale == np.float32(max(s.amax for s in found) / 127)
    choice = best_scale([found[0]], "percentile", percentile=99.0)
    assert choice.amax == pytest.approx(np.quantile(np.abs(VALUES["normal"]), 0.99), rel=0.01)


def test_auto_has_the_least_error_and_says_which_method() -> None:
    found = spread(VALUES["heavy tails"])
    choice = best_scale([found], AUTO)
    assert choice == best_scale([found], "mse") and choice.method == "mse"
    two = spread(np.array([0.0, 127.0]))
    assert best_scale([two], AUTO).method in ("max", "mse")


def test_a_tensor_of_zeros_has_no_scale_and_an_unknown_method_is_refused() -> None:
    assert best_scale([spread(np.zeros(3))]).scale == 0
    with pytest.raises(CalibrationError, match="no calibration method 'mean'"):
        best_scale([spread(VALUES["normal"])], "mean")
    with pytest.raises(CalibrationError, match="write a number above 0, at most 100"):
        best_scale([spread(VALUES["normal"])], "percentile", percentile=101)

"""Calibration methods: what a file of `qdqgraph.calibration.methods` gives, and that nothing heavy is needed to list it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from qdqgraph.calibration.histogram import Histogram
from qdqgraph.calibration.methods import DEFAULT, find_method, methods
from qdqgraph.calibration.methods.percentile import refuse_percentile
from qdqgraph.errors import CalibrationError


def even(bins: int) -> Histogram:
    """One value in each bin of width 1."""
    return Histogram(np.ones(bins, np.int32), np.arange(bins + 1, dtype=np.float32))


def test_each_file_defines_one_method_and_the_default_comes_first() -> None:
    names = list(methods())
    assert names[0] == DEFAULT == "max" and {"percentile", "entropy", "mse"} < set(names)
    assert all(name == method.name and method.summary for name, method in methods().items())


def test_a_method_that_there_is_not_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(CalibrationError, match=r"no calibration method 'mean': write max, .*percentile"):
        find_method("mean")


@pytest.mark.parametrize(("percentile", "amax"), [(50, 3), (51, 4), (100, 7), (1e-9, 0)])
def test_the_percentile_is_where_the_bin_begins_that_reaches_it(percentile: float, amax: float) -> None:
    assert find_method("percentile").amax(even(8), percentile=percentile, bound=127) == amax


def test_the_percentile_stays_within_the_histogram_where_the_parts_add_up_to_less_than_one() -> None:
    assert np.cumsum(np.full(10, 0.1))[-1] < 1
    assert find_method("percentile").amax(even(10), percentile=100, bound=127) == 10


@pytest.mark.parametrize("percentile", [0, -1, 100.1, float("nan"), "99", None])
def test_what_is_no_percentile_is_refused(percentile: object) -> None:
    with pytest.raises(CalibrationError, match="write a number above 0, at most 100"):
        refuse_percentile(percentile)


@pytest.mark.parametrize("name", ["mse", "entropy"])
def test_a_histogram_with_too_few_bins_is_refused(name: str) -> None:
    with pytest.raises(CalibrationError, match=f"64 bins is too small for {name}: it needs 129 or more"):
        find_method(name).amax(even(64), percentile=99, bound=127)


def test_max_searches_no_histogram() -> None:
    with pytest.raises(CalibrationError, match="method 'max' uses the largest magnitude"):
        find_method("max").amax(even(200), percentile=99, bound=127)


def test_what_amax_cuts_off_is_counted_by_its_square() -> None:
    histogram = Histogram(np.array([1, 1], np.int32), np.array([0, 2, 4], np.float32))  # values of 1 and 3
    assert [histogram.clipped_energy(amax) for amax in (4, 3, 2)] == [0, 0, 0.1]


def test_the_command_line_lists_the_methods_without_torch_and_scipy() -> None:
    code = (
        "import sys; from qdqgraph.cli.main import parser; parser(); "
        "print([name for name in ('torch', 'scipy', 'onnxruntime') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_of_amaxes_with_the_same_divergence_entropy_takes_the_largest() -> None:
    """Counts that are equal, then zero, are quantized without divergence by every candidate from the last value on."""
    histogram = Histogram(np.array([5] * 200 + [0] * 100, np.int32), np.linspace(0, 3, 301).astype(np.float32))
    assert find_method("entropy").amax(histogram, percentile=0, bound=127) == 3

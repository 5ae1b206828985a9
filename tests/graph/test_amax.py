"""amax and scale: every conversion is one floating-point operation, the one that the formula names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qdqgraph.graph.amax import (
    INT8_BOUND,
    amax_from_scale,
    integer_bound,
    inverse_scale_from_amax,
    scale_from_amax,
)

BOUNDS = st.sampled_from([(8, False), (8, True), (4, False), (16, True)]).map(lambda kind: integer_bound(*kind))
TYPES = st.sampled_from([np.float16, np.float32, np.float64])
REALS = TYPES.flatmap(
    lambda dtype: arrays.arrays(
        dtype, arrays.array_shapes(min_dims=0, max_dims=2, max_side=4), elements={"min_value": 0}
    )
)


def test_the_bounds_are_those_of_the_integer_types() -> None:
    assert integer_bound(8) == INT8_BOUND == np.iinfo(np.int8).max
    assert integer_bound(8, unsigned=True) == np.iinfo(np.uint8).max
    assert integer_bound(16) == np.iinfo(np.int16).max


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(REALS, BOUNDS)
def test_an_array_is_converted_in_its_own_type_by_one_division_or_product(amax: Any, bound: int) -> None:
    for found, expected in (
        (scale_from_amax(amax, bound), np.divide(amax, amax.dtype.type(bound))),
        (amax_from_scale(amax, bound), np.multiply(amax, amax.dtype.type(bound))),
        (inverse_scale_from_amax(amax, bound), np.divide(amax.dtype.type(bound), amax)),
    ):
        assert (found.dtype, found.shape) == (amax.dtype, amax.shape)
        assert np.array_equal(found, expected, equal_nan=True)


@given(st.floats(1e-30, 1e30), BOUNDS)
def test_a_number_is_converted_as_an_array_of_float64_is(amax: float, bound: int) -> None:
    for convert in (scale_from_amax, amax_from_scale, inverse_scale_from_amax):
        assert convert(amax, bound) == convert(np.array([amax]), bound)[0]


def test_steps_may_differ_from_scale_to_scale() -> None:
    scales, steps = np.array([0.5, 0.25]), np.array([127.0, 255.0])
    assert amax_from_scale(scales, steps).tolist() == [63.5, 63.75]

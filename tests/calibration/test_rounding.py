"""Weights rounded up or down by the error of the layer's output, against all roundings of small layers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from qdqgraph.calibration.weights.rounding import DAMPING, output_error, rounded


def layer(seed: int, depth: int, rows: int = 50, outputs: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Weights in steps, and Σ x xᵀ of strongly correlated inputs."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(rows, 1)) + 0.3 * random.normal(size=(rows, depth))
    return random.uniform(-100, 100, (outputs, depth)), (inputs.T @ inputs).astype(np.float32)


def damped(gram: np.ndarray) -> np.ndarray:
    return gram + np.eye(len(gram), dtype=np.float32) * DAMPING * np.trace(gram) / len(gram)


def all_errors(target: np.ndarray, gram: np.ndarray) -> np.ndarray:
    choices = np.array(list(product((0, 1), repeat=target.size))) + np.floor(target)
    return output_error(choices.astype(np.float64), target, damped(gram))


@pytest.mark.parametrize("seed", range(20))
def test_four_weights_get_a_rounding_that_no_single_change_improves(seed: int) -> None:
    target, gram = layer(seed, 4)
    found = rounded(target, gram).astype(np.float64)
    assert np.all(np.abs(found - target) < 1)
    error = output_error(found, target, damped(gram))[0]
    assert error <= output_error(np.rint(target), target, damped(gram))[0]
    for index in range(4):
        other = found.copy()
        other[0, index] = (
            np.floor(target[0, index]) if found[0, index] > target[0, index] else np.ceil(target[0, index])
        )
        assert error <= output_error(other, target, damped(gram))[0] * (1 + 1e-4)


def test_of_all_roundings_of_eight_weights_it_finds_one_near_the_best() -> None:
    ratios, nearest = [], []
    for seed in range(50):
        target, gram = layer(seed, 8)
        least = all_errors(target, gram).min()
        ratios.append(output_error(rounded(target, gram), target, damped(gram))[0] / least)
        nearest.append(output_error(np.rint(target), target, damped(gram))[0] / least)
    assert min(ratios) > 1 - 1e-4
    assert np.median(ratios) < 1.001 and max(ratios) < 3
    assert np.quantile(nearest, 0.75) > 5 and max(nearest) > 20


def test_two_equal_inputs_cancel_their_errors() -> None:
    """0.4 + 0.4 steps round to 0 + 0, an error of 0.8; 0 + 1 has an error of 0.2."""
    gram = np.ones((2, 2), np.float32)
    assert rounded(np.array([[0.4, 0.4]]), gram).sum() == 1


def test_independent_inputs_keep_the_nearest_integers() -> None:
    target = np.random.default_rng(0).uniform(-127, 127, (3, 70))
    assert np.array_equal(rounded(target, np.eye(70, dtype=np.float32)), np.rint(target))


def test_weights_beyond_the_range_and_inputs_that_are_zero_stay() -> None:
    gram = np.zeros((3, 3), np.float32)
    gram[:2, :2] = 1
    found = rounded(np.array([[-150.2, 0.4, 5.4]]), gram)
    assert found[0, 0] == -127 and found[0, 2] == 5
    assert np.array_equal(rounded(np.array([[0.4, 0.4]]), np.zeros((2, 2), np.float32)), [[0, 0]])


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    target, gram = layer(3, 100, 400, 5)
    whole = rounded(target, gram)
    monkeypatch.setattr("qdqgraph.calibration.weights.rounding.BLOCK", 7)
    parts = rounded(target, gram)
    first, second = (output_error(q, target, damped(gram)) for q in (whole, parts))
    np.testing.assert_allclose(first, second, rtol=0.02)

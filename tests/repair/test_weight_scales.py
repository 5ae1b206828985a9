"""`fix --data` chooses the scales of weights whose float values are known: per channel, by the calibration method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import qdqgraph
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.graph.graph import Graph
from qdqgraph.graph.pair import pairs
from tests.support.convolution import CHANNELS, INPUTS, network, reals, reference
from tests.support.marks import unmarked
from tests.support.samples import uniform as data


def weights(model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray]:
    """The scales of the weights, and the dequantized weights."""
    graph = Graph(model)
    pair = next(p for p in pairs(graph) if p.kind == "weight")
    made = graph.array("k")
    assert pair.scale is not None and made is not None
    return pair.scale, made


def squares(values: np.ndarray, made: np.ndarray) -> np.ndarray:
    return np.asarray(((values.astype(np.float64) - made) ** 2).sum(axis=(1, 2, 3)))


def outlier() -> np.ndarray:
    """Channel 1 has a value that costs the others more than it is worth."""
    found = reals()
    found[1, 0] = 1.4
    found[1, 1:] = np.random.default_rng(1).normal(scale=0.2, size=(INPUTS - 1, 1, 1))
    return found


@pytest.mark.parametrize("stored", [False, True])
def test_mse_gives_each_channel_the_scale_of_its_least_error(stored: bool) -> None:
    values = outlier()
    values[1] *= 5
    model = network(values, stored=stored)
    given = {"reference": reference(values)} if stored else {}
    result = qdqgraph.fix(model, data=data(model), calibrate="mse", **given)
    scale, made = weights(result.model)
    before = squares(values, weights(model)[1])
    assert (squares(values, made) <= before * (1 + 1e-6)).all()
    amax = np.abs(values).max(axis=(1, 2, 3)) / 127
    tried = np.linspace(0.5, 1, 21)
    for channel in range(CHANNELS):
        row = values[channel].reshape(-1).astype(np.float64)
        steps = amax[channel] * tried[:, None]
        error = ((np.clip(np.rint(row / steps), -127, 127) * steps - row) ** 2).sum(1)
        assert error.min() * (1 - 1e-5) <= squares(values, made)[channel] <= error.min() / 0.8
    assert scale.shape == (CHANNELS,)


def test_a_scale_that_is_nearly_the_best_stays() -> None:
    values = reals()
    model = network(values, stored=False, scale=np.abs(values).max(axis=(1, 2, 3)) / 126.5)
    result = qdqgraph.fix(model, data=data(model), calibrate="mse")
    assert np.array_equal(weights(result.model)[0], weights(model)[0])


def test_max_fits_every_channel_and_a_single_scale_becomes_one_for_each() -> None:
    values = reals()
    model = network(values, stored=False, scale=np.array(0.02))
    scale, made = weights(qdqgraph.fix(model, data=data(model), calibrate="max").model)
    np.testing.assert_allclose(scale, np.abs(values).max(axis=(1, 2, 3)) / 127, rtol=1e-6)
    assert (squares(values, made) < squares(values, weights(model)[1])).all()


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_methods_on_histograms_keep_the_scales_of_weights(method: str) -> None:
    model = network(outlier(), stored=False, scale=np.array([0.02, 0.02, 0.02]))
    result = qdqgraph.fix(model, data=data(model), calibrate=method)
    assert np.array_equal(weights(result.model)[0], weights(model)[0])


def test_keep_scales_and_except_leave_the_weights() -> None:
    model = network(outlier(), stored=False, scale=np.array([0.02, 0.02, 0.02]))
    for options in ({"keep_scales": True}, {"skip": ("i",)}):
        result = qdqgraph.fix(model, data=data(model), calibrate="mse", **options)
        assert np.array_equal(weights(result.model)[0], weights(model)[0])


def test_integers_without_a_reference_stay() -> None:
    model = network(outlier(), stored=True, scale=np.array([0.02, 0.02, 0.02]))
    result = qdqgraph.fix(model, data=data(model), calibrate="mse")
    assert np.array_equal(weights(result.model)[1], weights(model)[1])


def test_integers_that_were_learned_stay() -> None:
    values = reals()
    model = network(values, stored=True)
    (integers,) = (i for i in model.graph.initializer if i.name == "i")
    array = numpy_helper.to_array(integers).copy()
    array[:, ::3] = np.clip(array[:, ::3] + 1, -127, 127)
    near = np.abs(array * weights(model)[0].reshape(-1, 1, 1, 1) - values) < weights(model)[0].reshape(-1, 1, 1, 1)
    array = np.where(near, array, numpy_helper.to_array(integers))
    integers.CopyFrom(numpy_helper.from_array(array, "i"))
    result = qdqgraph.fix(model, data=data(model), calibrate="mse", reference=reference(values))
    assert np.array_equal(weights(result.model)[1], weights(model)[1])


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("method", ["max", "mse", "auto"])
def test_a_second_run_changes_nothing_and_undo_restores_the_bytes(stored: bool, method: str) -> None:
    values = outlier()
    model = network(values, stored=stored, scale=np.array([0.005, 0.007, 0.009]) * 3)
    before = model.SerializeToString()
    given = {"reference": reference(values)} if stored else {}
    result = qdqgraph.fix(model, data=data(model), calibrate=method, **given)
    assert not np.array_equal(weights(result.model)[0], weights(model)[0])
    assert not qdqgraph.fix(unmarked(result.model), data=data(model), calibrate=method, **given).plan.edits
    assert result.plan.apply(model).SerializeToString() == result.model.SerializeToString()
    assert result.plan.inverse().apply(result.model).SerializeToString() == before


def test_weights_that_a_scale_clips_are_found_in_the_reference() -> None:
    values = outlier()
    values[:, :10] *= 3
    model = network(values, stored=True, scale=np.abs(values[:, 10:]).max(axis=(1, 2, 3)) / 127)
    found = float_model(model, Path(), reference=reference(values))
    assert not found.unmatched and np.array_equal(found.matched()["k"], values)

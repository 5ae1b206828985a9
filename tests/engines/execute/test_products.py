"""INT8 kernels are exact: bit for bit those of a NumPy reference with int64 sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")

from qdqgraph.engines.execute.comparison import comparison
from qdqgraph.engines.execute.sums import EXACT, parts
from qdqgraph.engines.forecast.forecast import forecast
from qdqgraph.graph.graph import Graph
from qdqgraph.model.runtime import run
from qdqgraph.targets.target import Target
from tests.support.integer_kernels import Net, Window, convolved, quantized, scaled, transposed

EXTREMES = np.array([-128, -127, -1, 0, 1, 127])
OUT = 0.25
"""The scale of the result; a power of two, so that ties of .5 are exact."""
ONE = 1.0
"""The scale of the data: feeding integers gives the integers themselves."""


def engine_values(model: onnx.ModelProto, feed: dict[str, np.ndarray], target: str = "trt-11") -> np.ndarray:
    """The first output of a model as the engine computes it."""
    graph = Graph(model, target=Target.named(target))
    both = comparison(graph, forecast(graph, ""))
    assert not both.unfit
    results = [o.name for o in both.model.graph.output]
    name = next(iter(both.outputs.values()))[1]
    return np.asarray(run(both.model, [feed], Path())[0][results.index(name)])


def integers(random: np.random.Generator, shape: tuple[int, ...], low: int = -128) -> np.ndarray:
    """Integers of 8 bits, a third of them extreme."""
    some = random.integers(low, 128, shape)
    return np.where(random.random(shape) < 1 / 3, np.maximum(random.choice(EXTREMES, shape), low), some)


def scales(random: np.random.Generator, channels: int, per_channel: bool) -> np.ndarray:
    """Scales of weights, half of them powers of two, for exact ties."""
    size = (channels,) if per_channel else ()
    fine = random.uniform(1e-4, 1e-1, size)
    return np.where(random.random(size) < 0.5, 2.0 ** random.integers(-8, -1, size), fine).astype(np.float32)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, tuple[int, ...], tuple[int, ...]]:
    """A window, the spatial size of the input, and that of the kernel."""
    rank = draw(st.integers(1, 3))
    several = [draw(st.tuples(*[st.integers(low, high)] * rank)) for low, high in ((1, 2), (1, 2), (1, 3), (1, 5))]
    pads = draw(st.tuples(*[st.integers(0, 2)] * (2 * rank)))
    group = draw(st.sampled_from([1, 1, 2, 3]))
    return Window(several[0], several[1], pads, group), several[3], several[2]


@settings(max_examples=150, deadline=None)
@given(
    window=windows(),
    counts=st.tuples(*[st.integers(1, 3)] * 2),
    batch=st.integers(0, 2),
    seed=st.integers(0, 2**32 - 1),
    bias=st.booleans(),
    per_channel=st.booleans(),
    back=st.booleans(),
    relu=st.booleans(),
    residual=st.booleans(),
)
def test_convolutions_are_exact(
    window: tuple[Window, tuple[int, ...], tuple[int, ...]],
    counts: tuple[int, int],
    batch: int,
    seed: int,
    bias: bool,
    per_channel: bool,
    back: bool,
    relu: bool,
    residual: bool,
) -> None:
    moves, size, kernel = window
    reach, rank, random = moves.reach(kernel), len(size), np.random.default_rng(seed)
    inside, outside = (count * moves.group for count in counts)
    ends = zip(moves.pads[:rank], moves.pads[rank:], strict=True)
    if back:
        grown = [(n - 1) * s + r for n, s, r in zip(size, moves.strides, reach, strict=True)]
        assume(all(n > a + b for n, (a, b) in zip(grown, ends, strict=True)))
    else:
        assume(all(n + a + b >= r for n, (a, b), r in zip(size, ends, reach, strict=True)))
    shape = (inside, counts[1]) if back else (outside, counts[0])
    x = integers(random, (batch, inside, *size))
    w = integers(random, (*shape, *kernel), low=-127)
    scale = scales(random, shape[1] if back else outside, per_channel)
    b = (random.integers(-64, 64, outside) / 8).astype(np.float32) if bias else None

    net = Net()
    read = [net.pair(net.input("x", x.shape), ONE), net.weights(w, scale, 1 if back else 0)]
    read += [net.constant(b)] if b is not None else []
    end = net.node("ConvTranspose" if back else "Conv", read, **moves.attributes)
    sums = (transposed if back else convolved)(x, w, moves)
    along = (-1, *(1,) * rank)
    whole = np.tile(scale, moves.group) if back and per_channel else scale
    wanted = scaled(sums, whole.reshape(along) if per_channel else whole, None if b is None else b.reshape(along))
    feed = {"x": x.astype(np.float32)}
    if residual:
        skip = integers(random, wanted.shape)
        end = net.node("Add", [end, net.pair(net.input("skip", skip.shape), 0.125)])
        wanted = wanted + skip.astype(np.float32) * np.float32(0.125)
        feed["skip"] = skip.astype(np.float32) * np.float32(0.125)
    if relu:
        end, wanted = net.node("Relu", [end]), np.maximum(wanted, 0)
    found = engine_values(net.model(net.pair(end, OUT)), feed)
    assert found.dtype == np.float32 and found.shape == wanted.shape
    assert np.array_equal((found / np.float32(OUT)).astype(np.int8), quantized(wanted, OUT))


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 6)] * 3),
    turns=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
    per_channel=st.booleans(),
    bias=st.booleans(),
    alpha=st.sampled_from([1.0, 0.5]),
    beta=st.sampled_from([1.0, 2.0]),
)
def test_gemms_are_exact(
    sizes: tuple[int, int, int],
    turns: tuple[bool, bool],
    seed: int,
    per_channel: bool,
    bias: bool,
    alpha: float,
    beta: float,
) -> None:
    rows, inner, columns = sizes
    random = np.random.default_rng(seed)
    x, w = integers(random, (rows, inner)), integers(random, (inner, columns), low=-127)
    scale, b = scales(random, columns, per_channel), random.integers(-9, 9, columns).astype(np.float32)
    net = Net()
    given_x, given_w = (x.T if turns[0] else x), (w.T if turns[1] else w)
    read = [net.pair(net.input("x", given_x.shape), ONE), net.weights(given_w, scale, 0 if turns[1] else 1)]
    read += [net.constant(b)] if bias else []
    end = net.node("Gemm", read, transA=int(turns[0]), transB=int(turns[1]), alpha=alpha, beta=beta)
    wanted = scaled(x @ w, scale * np.float32(alpha), b * np.float32(beta) if bias else None)
    found = engine_values(net.model(net.pair(end, OUT)), {"x": given_x.astype(np.float32)})
    assert np.array_equal((found / np.float32(OUT)).astype(np.int8), quantized(wanted, OUT))


@settings(max_examples=60, deadline=None)
@given(
    batch=st.sampled_from([(), (2,), (2, 3)]),
    sizes=st.tuples(*[st.integers(1, 5)] * 3),
    seed=st.integers(0, 2**32 - 1),
    weights=st.sampled_from(["none", "left", "right"]),
    per_channel=st.booleans(),
)
def test_matrix_products_are_exact(
    batch: tuple[int, ...], sizes: tuple[int, int, int], seed: int, weights: str, per_channel: bool
) -> None:
    rows, inner, columns = sizes
    random = np.random.default_rng(seed)
    first, second = (batch, ()) if weights == "right" else ((), batch) if weights == "left" else (batch, batch)
    a, b = integers(random, (*first, rows, inner)), integers(random, (*second, inner, columns))
    net, feed, read = Net(), dict[str, np.ndarray](), list[str]()
    factor: np.ndarray = np.ones((), np.float32)
    for name, array, constant, axis in (("a", a, "left", 0), ("b", b, "right", 1)):
        if weights == constant:
            factor = scales(random, array.shape[axis], per_channel)
            read.append(net.weights(array, factor, axis))
            factor = factor.reshape(-1, 1) if per_channel and axis == 0 else factor
        else:
            read.append(net.pair(net.input(name, array.shape), ONE))
            feed[name] = array.astype(np.float32)
    found = engine_values(net.model(net.pair(net.node("MatMul", read), OUT)), feed)
    wanted = scaled(a @ b, factor, None)
    assert np.array_equal((found / np.float32(OUT)).astype(np.int8), quantized(wanted, OUT))


# Sums beyond 2 ** 24, which one FP32 sum would round


@pytest.mark.parametrize("op", ["Conv", "grouped", "ConvTranspose", "Gemm", "MatMul"])
def test_sums_beyond_the_integers_of_fp32_are_exact_and_rounded_once(op: str) -> None:
    random = np.random.default_rng(1)
    inner = 2200
    x = np.where(random.random((3, inner)) < 0.9, -128, 127)
    w = np.where(random.random((2, inner)) < 0.9, -127, 125)
    sums = x @ w.T
    assert sums.max() > EXACT and len({int(s) % 2 for s in sums.flat}) == 2
    net, scale = Net(), np.array([1.0, 0.5], np.float32)
    if op in ("Gemm", "MatMul"):
        read = [net.pair(net.input("x", x.shape), ONE), net.weights(w.T, scale, 1)]
        found = engine_values(net.model(net.node(op, read)), {"x": x.astype(np.float32)})
        wanted = scaled(sums, scale, None)
    else:
        groups = 2 if op == "grouped" else 1
        planes = np.concatenate([x] * groups, 1)[:, :, None]
        kernel = w[:, :, None].swapaxes(0, 1) if op == "ConvTranspose" else w[:, :, None]
        read = [net.pair(net.input("x", planes.shape), ONE), net.weights(kernel, scale, int(op == "ConvTranspose"))]
        end = net.node("ConvTranspose" if op == "ConvTranspose" else "Conv", read, group=groups)
        found = engine_values(net.model(end), {"x": planes.astype(np.float32)})
        wanted = scaled(sums[:, :, None], scale.reshape(-1, 1), None)
    assert np.array_equal(found, wanted)


def test_products_of_two_activations_beyond_the_integers_of_fp32_are_exact() -> None:
    random = np.random.default_rng(2)
    a, b = (np.where(random.random(shape) < 0.9, -128, 127) for shape in ((2, 2200), (2200, 2)))
    net = Net()
    end = net.node("MatMul", [net.pair(net.input(n, v.shape), ONE) for n, v in (("a", a), ("b", b))])
    found = engine_values(net.model(end), {"a": a.astype(np.float32), "b": b.astype(np.float32)})
    assert (a @ b).max() > EXACT and np.array_equal(found, (a @ b).astype(np.float32))


@settings(max_examples=100, deadline=None)
@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_parts_add_up_to_the_weights_and_each_is_within_the_limit(
    shape: list[int], seed: int, data: st.DataObject
) -> None:
    weights = integers(np.random.default_rng(seed), tuple(shape)).astype(np.float32)
    axes = tuple(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    largest = data.draw(st.integers(1, EXACT // 128))
    found = parts(weights, axes, largest)
    assert np.array_equal(np.sum(found, axis=0), weights)
    for part in found:
        assert not part.size or np.abs(part).sum(axis=axes).max() * largest <= EXACT
    whole = np.abs(weights).sum(axis=axes) if weights.size else np.zeros(1)
    assert len(found) == 1 or whole.max() * largest > EXACT


# Ties, saturation


def test_ties_are_rounded_to_even_and_values_saturate() -> None:
    x = np.array([[-128, -3, -1, 0, 1, 3, 127]]).T.reshape(7, 1, 1, 1)
    net = Net()
    read = [
        net.pair(net.input("x", x.shape), ONE),
        net.weights(np.full((3, 1, 1, 1), 1), np.array([0.125, 0.5, 100]), 0),
    ]
    found = engine_values(net.model(net.pair(net.node("Conv", read), OUT)), {"x": x.astype(np.float32)})
    steps = (found / OUT).reshape(7, 3).astype(int)
    assert steps[:, 0].tolist() == [-64, -2, 0, 0, 0, 2, 64]  # -1.5, -0.5, 0.5, 1.5, 63.5
    assert steps[:, 1].tolist() == [-128, -6, -2, 0, 2, 6, 127]
    assert steps[:, 2].tolist() == [-128, -128, -128, 0, 127, 127, 127]

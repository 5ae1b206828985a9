"""Statistics: what is counted is what is there, within the memory, and a file that fits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdqgraph import ModelError
from qdqgraph.calibration.data.sources import samples_of
from qdqgraph.calibration.statistics.counting import Counter
from qdqgraph.calibration.statistics.floating import FloatModel, float_model
from qdqgraph.calibration.statistics.measure import measure
from qdqgraph.calibration.statistics.segments import segments
from qdqgraph.calibration.statistics.sites import inside, sites_of
from qdqgraph.calibration.statistics.spread import BINS, Spread, union
from qdqgraph.calibration.statistics.statistics import Statistics
from qdqgraph.errors import CalibrationError
from qdqgraph.model.runtime import run
from tests.support.models import build

NET = """g (float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,1,1] v) {
    a = t.conv4 (x, s1) b = Relu (a) c = t.conv4 (b, s2) d = Add (b, c) e = Concat <axis = 1> (d, b)
    f = t.conv8 (e, s3) y = Sigmoid (f) g = GlobalAveragePool (y) v = Identity (g) }"""


def network() -> tuple[onnx.ModelProto, FloatModel]:
    model = build(NET)
    return model, float_model(model, Path())


def arrays(count: int = 3, seed: int = 0) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": (random.standard_normal((1, 4, 8, 8)) * (i + 1)).astype(np.float32)} for i in range(count)]


def brute(values: np.ndarray) -> Spread:
    """The same in one step."""
    x = values.astype(np.float64).reshape(-1)
    amax = np.abs(x).max()
    exponent = int(np.floor(np.log2(amax))) + 1 - 12 if amax else 0
    counts = np.bincount(np.floor(x / 2.0**exponent).astype(int) + BINS, minlength=2 * BINS)
    return Spread(float(x.min()), float(x.max()), exponent, counts, int((x == 0).sum()))


def same(a: Spread, b: Spread) -> bool:
    return (a.low, a.high, a.exponent, a.zeros, a.broken) == (b.low, b.high, b.exponent, b.zeros, b.broken) and bool(
        (a.counts == b.counts).all()
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-12, 12), st.integers(1, 300), st.booleans()),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 2**32 - 1),
)
def test_values_added_in_any_order_of_sizes_are_counted_as_in_one_step(
    parts: list[tuple[int, int, bool]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    chunks = [
        (random.standard_normal(count) * 10.0**power * (random.random(count) < 0.8)).astype(np.float32) * (not zero)
        for power, count, zero in parts
    ]
    counter = Counter()
    for chunk in chunks:
        counter.add(chunk)
    assert same(counter.spread(), brute(np.concatenate(chunks)))


def test_nan_and_infinity_are_counted_apart() -> None:
    counter = Counter()
    counter.add(np.array([[1, np.nan], [np.inf, -2]], np.float32))
    spread = counter.spread()
    assert (spread.low, spread.high, spread.values, spread.broken, spread.amax) == (-2, 1, 2, 2, 2)


def test_half_precision_and_more_values_than_one_array_operation_takes() -> None:
    values = np.random.default_rng(0).standard_normal((3, 70_000)).astype(np.float16)
    counter = Counter()
    counter.add(values)
    assert same(counter.spread(), brute(values))


def test_a_union_counts_what_its_members_count() -> None:
    random = np.random.default_rng(0)
    parts = [(random.standard_normal(1000) * size).astype(np.float32) for size in (1, 100, 1e-5)]
    parts.append(np.zeros(5, np.float32))
    assert same(union([brute(p) for p in parts]), brute(np.concatenate(parts)))


def test_sites_are_all_activations() -> None:
    _, found = network()
    names = sites_of(found)
    assert names[0] == "x" and {"b", "d", "e", "y"} <= set(names)
    assert {"a", "f"} <= set(names), "only functions of one tensor read them, and still a repair may place a pair there"


@pytest.mark.parametrize("memory", [1 << 40, 0])
def test_statistics_are_those_of_every_value_also_in_many_segments(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = network()
    if not memory:
        monkeypatch.setattr("qdqgraph.calibration.statistics.running.Running._budget", lambda self: 7000)
    data = samples_of(arrays(), model)
    lines: list[str] = []
    statistics = measure(found, data, memory=memory, progress=lines.append)
    assert lines == [f"measuring sample {i} of 3" for i in (1, 2, 3)]
    assert (statistics.samples, statistics.data, statistics.network) == (3, data.digest, found.digest)
    shown = onnx.ModelProto()
    shown.CopyFrom(found.model)
    inner = [n for n in statistics if n not in ("x", "y", "v")]
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in inner)
    names = [o.name for o in shown.graph.output]
    runs = run(shown, arrays(), Path())
    for name in statistics:
        whole = [a["x"] for a in arrays()] if name == "x" else [r[names.index(name)] for r in runs]
        assert same(statistics[name], brute(np.concatenate([w.reshape(-1) for w in whole]))), name


def test_tensors_inside_a_layer_and_its_activation() -> None:
    text = """g (float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] k) {
        a = t.conv4 (x, s1) b = Relu (a) c = t.conv4 (b, s2) d = Sigmoid (c) e = Mul (c, d) f = Add (b, e)
        g = Relu (f) h = t.conv4 (g, s3) i = Relu (h) k = Tanh (h) y = Sigmoid (i) }"""
    found = float_model(build(text), Path())
    assert inside(found) & set("abcdefghi") == set("acdf"), "Relu and Tanh read h: it may be quantized"


def test_histograms_that_were_not_counted_at_first_are_counted_in_one_more_pass() -> None:
    model, found = network()
    lines: list[str] = []
    whole = measure(found, samples_of(arrays(), model))
    part = measure(found, samples_of(arrays(), model), counted=("x", "v"), progress=lines.append)
    assert part.amax == whole.amax and "b" in part and "none" not in part and len(lines) == 3
    assert all(same(part[name], whole[name]) for name in ("x", "y", "v") if name != "y") and len(lines) == 3
    assert part.counted("b") is None and part.counted("x") is part["x"] and len(lines) == 3
    assert list(part) == list(whole) and all(same(part[name], whole[name]) for name in whole)
    assert lines[3:] == [f"counting values of sample {i} of 3" for i in (1, 2, 3)]
    assert part.counted("b") is part["b"]


def test_segments_keep_to_the_budget_and_compute_nothing_twice() -> None:
    _, found = network()
    types = {name: onnx.TensorProto.FLOAT for node in found.model.graph.node for name in node.output}
    sizes = dict.fromkeys([*types, "x"], 100)
    taps = list(types)
    whole = segments(found.model, taps, sizes, types, 10_000)
    parts = segments(found.model, taps, sizes, types, 500)
    assert len(whole) == 1 < len(parts)
    made = [name for part in parts for node in part.model.graph.node for name in node.output]
    assert sorted(made) == sorted(types)
    with pytest.raises(ModelError, match=r"needs [\d,]+ bytes for its tensors.*raise --memory"):
        segments(found.model, taps, sizes, types, 150)


def test_samples_of_different_sizes_are_measured_together() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,C] x) => (float[N,C] y) { y = Relu (x) }'
    )
    data = samples_of([{"x": np.full((1, n), n, np.float32)} for n in (2, 5, 3)], model)
    found = measure(float_model(model, Path()), data, ["x", "y"])
    assert found["y"].values == 10 and found["y"].high == 5 and found["y"].counts.max() == 5


def test_what_cannot_be_measured_is_refused() -> None:
    model, found = network()
    with pytest.raises(CalibrationError, match="no tensor 'nothing'"):
        measure(found, samples_of(arrays(), model), ["nothing"])
    with pytest.raises(ModelError, match="no samples"):
        measure(found, samples_of([], model))


def test_statistics_of_a_file_are_the_same(tmp_path: Path) -> None:
    model, found = network()
    data = samples_of(arrays(), model)
    statistics = measure(found, data)
    statistics.save(tmp_path / "s.npz")
    again = Statistics.load(tmp_path / "s.npz", network=found.digest, data=data.digest)
    assert list(again) == list(statistics) and all(same(again[n], statistics[n]) for n in again)
    assert (again.samples, again.description) == (3, "3 given samples")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        assert len(file["counts"]) < len(again), "a tensor that is only reshaped is stored once"


def test_a_file_of_another_network_or_other_samples_or_damaged_is_refused(tmp_path: Path) -> None:
    model, found = network()
    path = tmp_path / "s.npz"
    measure(found, samples_of(arrays(), model)).save(path)
    with np.load(path) as file:
        np.savez(tmp_path / "plain.npz", **file)
    with pytest.raises(CalibrationError, match=r"s\.npz: these statistics are of another network"):
        Statistics.load(path, network="other")
    with pytest.raises(CalibrationError, match=r"of other samples \(3: 3 given samples\)"):
        Statistics.load(path, network=found.digest, data="other")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CalibrationError, match="not a file of statistics, or damaged"):
        Statistics.load(path)
    with pytest.raises(CalibrationError, match="cannot be read: No such file"):
        Statistics.load(tmp_path / "none.npz")
    content = (tmp_path / "plain.npz").read_bytes()
    path.write_bytes(content.replace(b"{'descr'", b"{'descr\xd5"))
    with pytest.raises(CalibrationError, match="not a file of statistics, or damaged"):
        Statistics.load(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(CalibrationError, match="not a file of statistics"):
        Statistics.load(path)


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = network()
    path = tmp_path / "s.npz"
    statistics = measure(found, samples_of(arrays(), model))
    statistics.save(path)
    before = path.read_bytes()

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(CalibrationError, match=r"s\.npz: cannot be written: No space left"):
        statistics.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["s.npz"]


def test_the_number_of_samples_costs_no_memory() -> None:
    """Each sample exists only while it is measured."""
    model, found = network()
    alive: list[int] = []

    def source() -> Iterator[dict[str, np.ndarray]]:
        import weakref

        seen: list[weakref.ref[np.ndarray]] = []
        for index in range(20):
            array = np.full((1, 4, 8, 8), index, np.float32)
            seen.append(weakref.ref(array))
            alive.append(sum(r() is not None for r in seen))
            yield {"x": array}
            del array

    measure(found, samples_of(source, model))
    assert max(alive) <= 3

"""A whole detector: its statistics are those of every value, its layers' errors those of its tensors, and what a block
gains in float that of the stripped file."""

from __future__ import annotations

import glob
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import qdqgraph
from qdqgraph.calibration.agreement import agreement
from qdqgraph.calibration.data.sources import samples_of
from qdqgraph.calibration.statistics.floating import float_model
from qdqgraph.calibration.statistics.measure import measure
from qdqgraph.calibration.statistics.scales import error
from qdqgraph.calibration.statistics.spread import BINS
from qdqgraph.model.runtime import run
from samples.export import export

SIZE = 64


def test_the_statistics_of_a_yolov5s_are_those_of_every_value(tmp_path: Path) -> None:
    export("yolov5s", tmp_path / "net.onnx", size=SIZE)
    model = onnx.load(tmp_path / "net.onnx")
    found = float_model(model, tmp_path)
    assert not {n.op_type for n in found.model.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    random = np.random.default_rng(0)
    feeds = [{"images": random.uniform(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32)} for _ in range(3)]
    statistics = measure(found, samples_of(feeds, model))
    names = [name for name in statistics if name != "images"]
    assert len(names) > 70
    shown = onnx.ModelProto()
    shown.CopyFrom(found.model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    runs = run(shown, feeds, tmp_path)
    for index, name in enumerate(names):
        values = np.concatenate([sample[index].reshape(-1) for sample in runs]).astype(np.float64)
        spread = statistics[name]
        assert (spread.low, spread.high, spread.values) == (values.min(), values.max(), values.size), name
        assert spread.zeros == np.count_nonzero(values == 0)
        bins = np.floor(values / spread.width).astype(int) + BINS
        assert np.array_equal(np.bincount(bins, minlength=2 * BINS), spread.counts), name
        for ratio in (1, 0.3):
            scale = spread.amax / 127 * ratio
            true = np.mean((values - np.clip(np.rint(values / scale), -128, 127) * scale) ** 2)
            assert error(spread, scale) == pytest.approx(true, rel=0.05), name


def test_the_accumulated_errors_of_a_yolov5s_are_those_of_its_tensors(tmp_path: Path) -> None:
    export("yolov5s", tmp_path / "net.onnx", size=SIZE)
    model = onnx.load(tmp_path / "net.onnx")
    random = np.random.default_rng(0)
    feeds = [{"images": random.uniform(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32)} for _ in range(2)]
    found = qdqgraph.error(model, feeds)
    assert len(found.layers) > 50 and found.samples == 2 and not found.skipped
    network = float_model(model, tmp_path)
    names = [row.layer for row in found.layers]
    tensors: list[list[np.ndarray]] = []
    for source, wanted in ((model, names), (network.model, [network.tensor(name) for name in names])):
        shown = onnx.ModelProto()
        shown.CopyFrom(source)
        del shown.graph.output[:]
        shown.graph.output.extend(
            onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in dict.fromkeys(wanted)
        )
        runs = [dict(zip(dict.fromkeys(wanted), sample, strict=True)) for sample in run(shown, feeds, tmp_path)]
        tensors.append([np.stack([sample[n] for sample in runs]).astype(np.float64) for n in wanted])
    for row, quantized, exact in zip(found.layers, *tensors, strict=True):
        sqnr = 10 * np.log10((exact**2).sum() / ((quantized - exact) ** 2).sum())
        assert row.accumulated.sqnr == pytest.approx(sqnr, abs=0.01), row.layer
        assert row.alone.sqnr > row.accumulated.sqnr - 3, row.layer


def test_what_blocks_of_a_yolov5s_gain_is_what_strip_gains(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export("yolov5s", path, size=SIZE)
    random = np.random.default_rng(0)
    feeds = [{"images": random.uniform(0, 1, (1, 3, SIZE, SIZE)).astype(np.float32)} for _ in range(2)]
    found = qdqgraph.sensitivity(path, feeds, by="block")
    assert found.complete and 40 < found.total < 80
    exact = run(float_model(onnx.load(path), tmp_path).model, feeds, tmp_path)

    def sqnr(model: onnx.ModelProto) -> float:
        noisy = run(model, feeds, tmp_path)
        each = [agreement([o[i] for o in exact], [o[i] for o in noisy]).sqnr for i in range(len(exact[0]))]
        return float(np.mean(each))

    before = sqnr(onnx.load(path))
    assert found.quantized.sqnr_db == pytest.approx(before, abs=1e-3)
    for unit in (*found.units[:2], found.units[-1]):
        after = sqnr(qdqgraph.strip(path, [glob.escape(layer) for layer in unit.layers]).model)
        assert unit.gain == pytest.approx(after - before, abs=0.01)
    assert found.units[0].gain is not None and found.units[0].gain > 0

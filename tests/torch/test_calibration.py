"""`calibrate`: the library's own amax, bit for bit, and what the library cannot take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_quantization")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qdqgraph.calibration.histogram import Histogram
from qdqgraph.calibration.methods import find_method
from qdqgraph.errors import CalibrationError, TorchError
from qdqgraph.graph.amax import integer_bound
from qdqgraph.torch import Config, Layers, Spec, calibrate, export, fold_norms, link, quantize, quantizers, save
from qdqgraph.torch.calibration.histogram import LIBRARY, MOST_BINS, HistogramCollector
from qdqgraph.torch.quantizer.quantizer import HistogramCalibrator, MaxCalibrator


def library(calibrator: HistogramCalibrator, method: str, **options: float) -> Tensor:
    """What the library itself answers; it runs mse on CUDA alone, so that call is left out."""
    with patch.object(torch.Tensor, "cuda", lambda self: self):
        found: Tensor = calibrator.compute_amax(method, **options)
    return found


def values(kind: str, seed: int, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(20, 300, generator=generator) * (1 + 0.1 * i) for i in range(count)]
    change: dict[str, Any] = {
        "relu": torch.relu,
        "heavy": lambda x: x**3,
        "coarse": lambda x: (x * 4).round(),
        "normal": lambda x: x,
    }
    return [change[kind](x) for x in made]


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
@pytest.mark.parametrize("kind", ["relu", "heavy", "coarse"])
def test_amax_is_the_librarys_bit_for_bit(kind: str, method: str) -> None:
    ours, theirs = HistogramCollector(), HistogramCalibrator(8, None, False)
    for x in values(kind, 0, count=1 if kind == "heavy" else 2):
        ours.collect(x)
        theirs.collect(x)
    expected = library(theirs, method)
    found = ours.compute_amax(find_method(method))
    assert found is not None and found.dtype == expected.dtype and found.shape == expected.shape
    assert found.numpy().tobytes() == expected.numpy().tobytes()


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(129, 400), st.booleans())
def test_the_searches_are_the_librarys_on_any_histogram(seed: int, bins: int, unsigned: bool) -> None:
    """Also where many bins are empty, where the library divides by zero and where candidates tie."""
    from pytorch_quantization.calib import histogram

    random = np.random.default_rng(seed)
    counts = (random.integers(0, 1000, bins) * (random.random(bins) < random.random())).astype(np.int32)
    counts[1] += 1
    edges = np.linspace(0, 10 ** random.uniform(-9, 3), bins + 1).astype(np.float32)
    with patch.object(torch.Tensor, "cuda", lambda self: self), np.errstate(all="ignore"):
        mse = histogram._compute_amax_mse(counts.copy(), edges, 8, unsigned)
        try:
            entropy = histogram._compute_amax_entropy(counts.copy(), edges, 8, unsigned)
        except RuntimeError as error:
            assert "Count mismatch" in str(error)
            entropy = None
    histogram, bound = Histogram(counts, edges), integer_bound(8, unsigned)
    assert find_method("mse").amax(histogram, percentile=0, bound=bound, sums=LIBRARY) == mse.item()
    if entropy is not None:
        assert find_method("entropy").amax(histogram, percentile=0, bound=bound, sums=LIBRARY) == entropy.item()


def test_the_searches_are_at_least_ten_times_faster() -> None:
    """On one histogram; benchmarks/calibration.py measures a whole ResNet-18."""
    ours, theirs = HistogramCollector(), HistogramCalibrator(8, None, False)
    for calibrator in (ours, theirs):
        calibrator.collect(values("relu", 1)[0])
    for method in ("entropy", "mse"):
        times = []
        for _ in range(3):
            start = time.process_time()
            ours.compute_amax(find_method(method))
            times.append(time.process_time() - start)
        start = time.process_time()
        library(theirs, method)
        assert time.process_time() - start > 10 * min(times), method


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten())


def images(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(2, 3, 12, 12, generator=generator) for _ in range(count)]


def quantized(config: Config | None = None) -> nn.Module:
    model = network()
    quantize(model, config)
    return model


@pytest.mark.parametrize("method", ["max", "percentile", "entropy", "mse"])
def test_a_calibrated_network_is_the_one_that_the_library_calibrates(method: str) -> None:
    """The library's own way: enable_calib, run, load_calib_amax."""
    ours, theirs = quantized(), quantized()
    calibrate(ours, [(x, 0) for x in images()], batches=2, method=method)
    for name, quantizer in quantizers(theirs).items():
        kind = MaxCalibrator if method == "max" or "weight" in name else HistogramCalibrator
        quantizer._calibrator = kind(8, quantizer.axis, False)
        quantizer.disable_quant()
        quantizer.enable_calib()
    with torch.no_grad():
        for x in images()[:2]:
            theirs(x)
    for name, quantizer in quantizers(theirs).items():
        histogram = isinstance(quantizer._calibrator, HistogramCalibrator)
        expected = library(quantizer._calibrator, method) if histogram else quantizer._calibrator.compute_amax()
        assert torch.equal(quantizers(ours)[name].amax, expected), name
    assert all(q._if_quant and not q._if_calib for q in quantizers(ours).values())


def test_a_method_of_its_own_for_some_layers() -> None:
    config = Config(input=Spec(method="percentile", percentile=90.0), layers=(Layers("2", {"method": "max"}, {}),))
    a, b, c = quantized(config), quantized(), quantized(config)
    calibrate(a, images())
    calibrate(b, images(), method="percentile", percentile=90.0, layers={"2": "max"})
    calibrate(c, images(), method="mse")
    amaxes = [{n: q.amax for n, q in quantizers(m).items()} for m in (a, b, c)]
    assert all(torch.equal(amaxes[0][n], amaxes[1][n]) for n in amaxes[0])
    assert not torch.equal(amaxes[0]["0._input_quantizer"], amaxes[2]["0._input_quantizer"])
    assert torch.equal(amaxes[0]["0._weight_quantizer"], amaxes[2]["0._weight_quantizer"])


class Odd(nn.Module):
    """Quantizers that no batch reaches, or that see zeros, NaN, or zeros and tiny values before large ones."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.never, self.zeros, self.nan, self.late = (nn.Linear(3, 3) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.seen(x) + self.zeros(x * 0) + self.nan(x / (x - x.flatten()[0])) + self.late(x)
        return out


def test_what_calibration_could_not_find_is_reported_by_name() -> None:
    for method in ("max", "entropy"):
        model = Odd()
        quantize(model)
        report = calibrate(model, [torch.rand(40, 3), torch.rand(40, 3)], method=method)
        assert report.unseen == ("never._input_quantizer", "never._weight_quantizer")
        assert report.zero == ("zeros._input_quantizer",)
        assert report.broken == ("nan._input_quantizer",)
        assert quantizers(model)["nan._input_quantizer"].amax is None
        assert quantizers(model)["never._input_quantizer"].amax is None
        for name in ("never", "zeros", "nan"):
            assert f"reached {name}._input_quantizer" in str(report)


def test_a_histogram_may_begin_with_zeros() -> None:
    """The library raises OverflowError there. Zeros count, as they do in a batch that holds other values."""
    x = torch.rand(1000) + 0.5
    late, early = HistogramCollector(), HistogramCollector()
    for batch in (torch.zeros(500), x):
        late.collect(batch)
    for batch in (x, torch.zeros(500)):
        early.collect(batch)
    a, b = late.histogram, early.histogram
    assert a is not None and b is not None
    assert np.array_equal(a.counts, b.counts) and np.array_equal(a.edges, b.edges)
    with pytest.raises(OverflowError):
        broken = HistogramCalibrator(8, None, False)
        for batch in (torch.zeros(500), x):
            broken.collect(batch)


def test_a_histogram_of_tiny_values_grows_within_bounds_when_large_ones_come() -> None:
    """The library would ask for 83 GB here."""
    collector = HistogramCollector()
    for scale in (1e-6, 1.0, 30.0):
        collector.collect(torch.linspace(0, scale, 5000))
    histogram = collector.histogram
    assert histogram is not None and len(histogram.counts) <= 2 * MOST_BINS and histogram.counts.sum() == 15000
    assert histogram.edges[-1] == pytest.approx(30, rel=0.01)
    found = collector.compute_amax(find_method("percentile"), percentile=80.0)
    assert found is not None and 10 < float(found) < 13


def test_modes_and_flags_come_back_as_they_were() -> None:
    model: Any = quantized().train()
    model[2].eval()
    modes = [m.training for m in model.modules()]
    calibrate(model, images())
    assert [m.training for m in model.modules()] == modes

    def failing() -> Iterator[Tensor]:
        yield images()[0]
        raise KeyError("loader")

    with pytest.raises(KeyError):
        calibrate(model, failing())
    assert all(q._if_quant and not q._if_calib for q in quantizers(model).values())
    assert [m.training for m in model.modules()] == modes


def test_a_disabled_quantizer_stays_so_and_a_second_run_forgets_the_first() -> None:
    model = quantized()
    quantizers(model)["0._input_quantizer"].disable()
    calibrate(model, [x * 9 for x in images()])
    report = calibrate(model, images())
    fresh = quantized()
    calibrate(fresh, images())
    assert "0._input_quantizer" not in report.amax and quantizers(model)["0._input_quantizer"].amax is None
    assert torch.equal(quantizers(model)["2._input_quantizer"].amax, quantizers(fresh)["2._input_quantizer"].amax)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mean"}, "no calibration method 'mean'"),
        ({"layers": {"9": "max"}}, "no module matches '9'"),
        ({"layers": {"*_weight_quantizer": "mse"}}, "searches one histogram"),
        ({"batches": 0}, "batches 0: give the number of batches, 1 or more"),
        ({"batches": -1}, "batches -1: give the number of batches"),
        ({"batches": "8"}, "batches '8': give the number of batches"),
        ({"method": "percentile", "percentile": 0.0}, "above 0, at most 100"),
        ({"method": "percentile", "percentile": 100.5}, "percentile 100.5"),
        ({"method": "percentile", "percentile": float("nan")}, "percentile nan"),
        ({"method": "percentile", "percentile": "99"}, "percentile '99'"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises((TorchError, CalibrationError), match=message):
        calibrate(quantized(), images(), **options)  # type: ignore[arg-type]
    with pytest.raises(TorchError, match="contains no enabled quantizers"):
        calibrate(network(), images())


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "the loader yields no batch to calibrate with"),
        (iter(()), "the loader yields no batch to calibrate with"),
        (["image"], "the loader yields str; pass a feed"),
        ([()], "the loader yields tuple; pass a feed"),
        ([{"image": None}], "the loader yields NoneType; pass a feed"),
        ([np.array(["image"])], "the loader yields ndarray; pass a feed"),
        (torch.rand(2, 3, 8, 8), "the loader is one Tensor, which yields its rows: pass a list of batches"),
        (3, "the loader is 3, which is not iterable: pass a DataLoader or a list"),
        (None, "the loader is None, which is not iterable"),
        ([torch.rand(2, 3, 8, 8, device="meta")], "the loader yields a tensor on the meta device"),
        ([torch.rand(2, 7, 8, 8)], r"fails on what the loader yields, \[2, 7, 8, 8\] of float32: RuntimeError: Given"),
        ([{"label": torch.zeros(2, dtype=torch.long)}], r"fails on entry 'label', the first, of .*, \[2\] of int64: "),
        ([(torch.zeros(2, dtype=torch.uint8), 1)], r"fails on entry 0, the first, of .*, \[2\] of uint8: "),
    ],
)
def test_a_loader_that_yields_no_inputs_is_refused_by_what_it_yields(loader: Any, message: str) -> None:
    model = quantized()
    with pytest.raises(TorchError, match=message):
        calibrate(model, loader)
    assert calibrate(model, images()).amax


def test_a_model_without_numbers_is_refused_by_the_tensor_that_has_none() -> None:
    model: Any = quantized()
    model[0].bias = nn.Parameter(model[0].bias.to("meta"))
    example = images()[0]
    for refused in (
        lambda: calibrate(model, images()),
        lambda: link(model, example),
        lambda: save(model, "state.pt"),
        lambda: fold_norms(model, example),
    ):
        with pytest.raises(TorchError, match=r"0\.bias is on the meta device, which has no values: load the model's"):
            refused()
    with pytest.raises(TorchError, match=r"and \d+ more are on the meta device"):
        calibrate(model.to("meta"), images())


@pytest.mark.parametrize("example", [None, (), {}, 3.0, np.zeros((1, 3, 8, 8), np.float32)])
def test_an_example_without_tensors_is_refused(example: Any) -> None:
    reason = (
        "contains a NumPy array" if isinstance(example, np.ndarray) else "contains no tensor: pass an input, a tuple of"
    )
    for refused in (
        lambda: link(quantized(), example),
        lambda: export(quantized(), example, "m.onnx"),
        lambda: fold_norms(network(), example),
    ):
        with pytest.raises(TorchError, match=reason):
            refused()
    with pytest.raises(TorchError, match="the model fails on the example: RuntimeError: Given groups"):
        fold_norms(network(), torch.rand(2, 7, 8, 8))


def test_loaders_may_yield_dictionaries_and_other_types() -> None:
    model = quantized().double()
    calibrate(model, [{"image": x, "label": 1} for x in images()])
    assert quantizers(model)["0._input_quantizer"].amax.dtype == torch.float64
    amax = quantizers(model)["0._input_quantizer"].amax.item()
    calibrate(model, [(x.numpy(), 1) for x in images()])
    assert quantizers(model)["0._input_quantizer"].amax.item() == amax


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_model_on_cuda_is_calibrated_there() -> None:
    for method in ("max", "mse", "entropy"):
        cpu, gpu = quantized(), quantized().cuda()
        for model in (cpu, gpu):
            calibrate(model, images(), method=method)
        for name, quantizer in quantizers(gpu).items():
            assert quantizer.amax.is_cuda
            torch.testing.assert_close(quantizer.amax.cpu(), quantizers(cpu)[name].amax, rtol=0.01, atol=1e-5)
        gpu(images()[0].cuda())


def test_an_amax_that_cuts_off_much_of_what_it_saw_is_named() -> None:
    model = quantized()
    spiked = torch.cat([torch.full((60000,), 0.3), 8 * torch.rand(6000, generator=torch.Generator().manual_seed(0))])
    batch = spiked.repeat(3).view(-1, 3, 10, 11)
    report = calibrate(model, [batch], method="entropy")
    amax, lost = report.amax["0._input_quantizer"], report.clipped["0._input_quantizer"]
    beyond = (spiked - amax).clamp_min(0).square().sum() / spiked.square().sum()
    assert amax < 2 and lost == pytest.approx(float(beyond), rel=0.02)
    assert "energy of the inputs of 0._input_quantizer" in str(report)
    for method in ("max", "percentile"):
        assert "0._input_quantizer" not in calibrate(model, [batch], method=method).clipped

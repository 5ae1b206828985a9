"""`calibrate`: computes each quantizer's amax from data, with pytorch-quantization's calibrators, for the
quantizers of every backend."""

from __future__ import annotations

import itertools
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from ...calibration.method import Method
from ...calibration.methods import DEFAULT, find_method
from ...calibration.methods.percentile import DEFAULT_PERCENTILE, refuse_percentile
from ...errors import TorchError
from ..calls.example import call_model
from ..quantizer.choice import select_modules
from ..quantizer.provenance import provenance, remember
from ..quantizer.quantizer import (
    MaxCalibrator,
    Quantizer,
    evaluating,
    isolated_run,
    quantizers,
    refuse_meta_tensors,
    silence_library_log,
)
from .histogram import HistogramCollector

Feed = Callable[[nn.Module, Any], Any]
"""Runs the model on what a loader yields."""
CLIPPED = 0.05
"""Clipping more than this fraction of the energy is reported: its noise is 13 dB below the values."""


@dataclass(frozen=True)
class Calibrated:
    """The result of a calibration.

    Attributes:
        amax: by quantizer path, in the units of the tensor that it quantizes; the largest of a per-channel amax.
            Quantizers without amax are omitted.
        unseen: quantizers that no batch reached; they have no amax, so an export that runs them is refused.
        zero: quantizers that received only zeros.
        broken: quantizers that received NaN or infinity. A histogram ignores such a batch; with method max the
            quantizer gets no amax.
        clipped: for quantizers whose method searches a histogram, the fraction of the values' energy that amax clips,
            if it is more than `CLIPPED`. Entropy clips so much if a few values, such as those of a uniform background,
            fill most of the histogram: it resolves these, and clips the others.
    """

    amax: Mapping[str, float]
    unseen: tuple[str, ...]
    zero: tuple[str, ...]
    broken: tuple[str, ...]
    clipped: Mapping[str, float]

    def __str__(self) -> str:
        lines = [f"{len(self.amax)} quantizers calibrated"]
        for what, names in (
            ("no batch reached", self.unseen),
            ("only zeros reached", [n for n in self.zero if "weight_quantizer" not in n]),
            ("NaN or infinity reached", self.broken),
        ):
            lines += [f"{what} {name}" for name in names]
        zero_weights = [n for n in self.zero if "weight_quantizer" in n]
        lines += [f"all weights are zero, as in an untrained layer: {name}" for name in zero_weights]
        for name, part in self.clipped.items():
            lines.append(f"amax clips {part:.0%} of the energy of the inputs of {name}: choose another method for it")
        return "\n".join(lines)


def calibrate(
    model: nn.Module,
    loader: Iterable[Any],
    batches: int | None = None,
    method: str = "",
    *,
    percentile: float | None = None,
    layers: Mapping[str, str] | None = None,
    feed: Feed | None = None,
    progress: bool = True,
) -> Calibrated:
    """Sets the amax of every enabled quantizer from float runs of the model over the batches.

    Args:
        model: quantized; its modes and devices are the same afterwards.
        loader: yields inputs, tensors or NumPy arrays whose first dimension is the batch; of a tuple, list or
            dictionary the first entry is the input. On any device, of any floating-point type.
        batches: the number of batches to use, 1 or more; None: all.
        method: the name of a method of `qdqgraph.calibration.methods`, for activations; "": each quantizer's own, from
            its configuration, or max. Weights always use their own. A model that was calibrated before, or loaded
            from a state that was, keeps the `method` and `layers` of that calibration if both are omitted here, and
            its `percentile` likewise.
        percentile: of values that stay within amax, in percent, above 0 and at most 100; None: each quantizer's own, or
            99.99.
        layers: methods by glob on the paths of quantizers or modules; they take precedence over `method`. A glob
            selects activations; one that contains "weight_quantizer" also weights.
        feed: runs the model on what the loader yields, if the model needs more than the first entry; its errors are
            passed on.
        progress: show a bar on a terminal.

    Raises:
        CalibrationError: a method is unknown, or `percentile` is out of its range.
        TorchError: `batches` is out of its range, a glob matches no quantizer, the loader yields no batches or no
            inputs, the model has tensors on the meta device or fails on a batch, or the method of a quantizer with an
            axis searches a histogram.
    """
    refuse_meta_tensors(model)
    found = {n: q for n, q in quantizers(model).items() if not q._disabled}
    if not found:
        raise TorchError("the model contains no enabled quantizers: quantize it first")
    last = provenance(model)
    if not method and layers is None:
        method, layers = last.method, last.layers
    percentile = last.percentile if percentile is None else percentile
    if percentile is not None:
        refuse_percentile(percentile)
    if batches is not None and (not isinstance(batches, int) or batches < 1):
        raise TorchError(f"batches {batches!r}: give the number of batches, 1 or more, or None for all")
    if isinstance(loader, Tensor | np.ndarray):
        raise TorchError(f"the loader is one {type(loader).__name__}, which yields its rows: pass a list of batches")
    if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
        raise TorchError(f"the loader is {loader!r}, which is not iterable: pass a DataLoader or a list of batches")
    methods = _methods(found, method, layers or {})
    calibrators = {name: _calibrator(name, q, methods[name]) for name, q in found.items()}
    with silence_library_log(), _collecting(model, found, calibrators):
        _run_batches(model, loader, batches, feed or run_first_input, progress, found)
        amaxes = {
            name: _amax(calibrators[name], methods[name], percentile or q.percentile or DEFAULT_PERCENTILE)
            for name, q in found.items()
        }
    broken = [n for n, c in calibrators.items() if _saw_infinite(c, amaxes[n])]
    with torch.inference_mode(False):  # amax is trained later
        for name, quantizer in found.items():
            amax = amaxes[name]
            finite = amax is not None and bool(torch.isfinite(amax).all())
            quantizer.set_amax(_widened(model, amax) if amax is not None and finite else None)
    kept = {n: float(a.max()) for n, a in amaxes.items() if a is not None and found[n].amax is not None}
    unseen = [n for n, a in amaxes.items() if a is None and n not in broken]
    zero = [n for n, largest in kept.items() if largest == 0]
    collectors = {n: c for n, c in calibrators.items() if n in kept and isinstance(c, HistogramCollector)}
    cut = {n: c.clipped_energy(kept[n]) for n, c in collectors.items()}
    for calibrator in calibrators.values():
        calibrator.reset()
    clipped = {n: part for n, part in cut.items() if part > CLIPPED}
    used = {"method": method, "percentile": percentile, "layers": dict(layers or {}), "batches": batches}
    remember(model, calibrated=True, **used)
    return Calibrated(kept, tuple(unseen), tuple(zero), tuple(broken), clipped)


def run_first_input(model: nn.Module, batch: Any) -> Any:
    """Runs the model on the first entry of what a loader yields, on the model's device and in its precision.

    Raises:
        TorchError: the first entry is neither a tensor nor a numeric array, or the model fails on it.
    """
    x, what = first_entry(batch)
    if not isinstance(x, Tensor):
        raise TorchError(f"the loader yields {type(x).__name__}; pass a feed that runs the model on it")
    if x.is_meta:
        raise TorchError("the loader yields a tensor on the meta device, which has no values")
    return call_model(model, f"{what}, {list(x.shape)} of {str(x.dtype).removeprefix('torch.')}", to_model(model, x))


def first_entry(batch: Any) -> tuple[Any, str]:
    """The first entry of what a loader yields, with a numeric array as a tensor, and its name in messages."""
    what = "what the loader yields"
    while isinstance(batch, Mapping | tuple | list) and batch:
        first = next(iter(batch.items())) if isinstance(batch, Mapping) else (0, batch[0])
        what, batch = f"entry {first[0]!r}, the first, of what the loader yields", first[1]
    if isinstance(batch, np.ndarray) and batch.dtype.kind in "bfiu":
        batch = torch.from_numpy(np.ascontiguousarray(batch))
    return batch, what


def to_model(model: nn.Module, x: Tensor) -> Tensor:
    """An input on the model's device; one of a floating-point type is converted to the model's."""
    place = next(itertools.chain(model.parameters(), model.buffers()), x)
    return x.to(place.device, place.dtype if x.is_floating_point() and place.is_floating_point() else x.dtype)


def _methods(found: Mapping[str, Quantizer], method: str, layers: Mapping[str, str]) -> dict[str, Method]:
    """The method of each quantizer, by path.

    Raises:
        CalibrationError: a method is unknown.
        TorchError: a glob matches no quantizer.
    """
    own = {
        n: q.method or DEFAULT if q.library.is_weight(n) else method or q.method or DEFAULT for n, q in found.items()
    }
    for pattern, special in layers.items():
        for name in select_modules(found, pattern, "layers"):
            if not found[name].library.is_weight(name) or "weight_quantizer" in pattern:
                own[name] = special
    known = {name: find_method(name) for name in {*own.values(), *layers.values(), method or DEFAULT}}
    return {path: known[name] for path, name in own.items()}


def _calibrator(name: str, quantizer: Quantizer, method: Method) -> HistogramCollector | MaxCalibrator:
    """A new calibrator for a quantizer.

    Raises:
        TorchError: the method searches a histogram, and the quantizer has an axis.
    """
    axis = quantizer.axis
    if method.search is None:
        return MaxCalibrator(quantizer.num_bits, axis, quantizer.unsigned)
    if axis is not None:
        raise TorchError(f"{name}: method {method.name!r} searches one histogram, but its amax has axis {axis}")
    return HistogramCollector(quantizer.num_bits, quantizer.unsigned)


@contextmanager
def _collecting(model: nn.Module, found: Mapping[str, Quantizer], calibrators: Mapping[str, Any]) -> Iterator[None]:
    """Puts the model into eval mode and lets its quantizers collect values instead of rounding, in the block."""
    for name, quantizer in found.items():
        quantizer.collect_with(calibrators[name])
    try:
        with evaluating(model), isolated_run(model), torch.no_grad():
            yield
    finally:
        for quantizer in found.values():
            quantizer.stop_collecting()


def _run_batches(
    model: nn.Module,
    loader: Iterable[Any],
    batches: int | None,
    feed: Feed,
    progress: bool,
    found: Mapping[str, Quantizer],
) -> None:
    taken: Iterable[Any] = itertools.islice(loader, batches)
    console = Console(stderr=True)
    if progress and console.is_terminal and sys.stderr is not None:
        total = batches if batches is not None else operator.length_hint(loader) or None
        taken = track(taken, "calibrating", total=total, console=console, transient=True)
    count = 0
    for batch in taken:
        feed(model, batch)
        if not count:
            for name, quantizer in found.items():
                if quantizer.library.is_weight(name):
                    quantizer.pause_collecting()  # weights are the same in every batch
        count += 1
    if not count:
        raise TorchError("the loader yields no batch to calibrate with")


def _widened(model: nn.Module, amax: Tensor) -> Tensor:
    """An amax in the model's precision at least: autocast lets quantizers collect values of half precision."""
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return amax.clone().to(torch.promote_types(amax.dtype, own))


def _amax(calibrator: HistogramCollector | MaxCalibrator, method: Method, percentile: float) -> Tensor | None:
    if isinstance(calibrator, HistogramCollector):
        return calibrator.compute_amax(method, percentile=percentile)
    found: Tensor | None = calibrator.compute_amax()
    return found


def _saw_infinite(calibrator: HistogramCollector | MaxCalibrator, amax: Tensor | None) -> bool:
    if isinstance(calibrator, HistogramCollector):
        return calibrator.broken > 0
    return amax is not None and not bool(torch.isfinite(amax).all())

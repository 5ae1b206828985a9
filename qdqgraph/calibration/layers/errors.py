"""`LayerError`: what rounding costs at the output of a layer, measured on samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...log import Progress, log_step
from ..data.samples import of_all
from ..sqnr import sqnr
from ..statistics.running import DEFAULT_MEMORY, Running
from .twin import Compared, Twin

Feeds = Iterable[Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class LayerError:
    """The difference between a layer's output and the float network's, over all samples.

    Attributes:
        sqnr: 10·log10(Σ float² / Σ difference²) in dB; inf without a difference, nan if a value is not finite.
        cosine: cosine similarity of the two outputs, -1 to 1; nan if one is all zero.
        largest: the largest absolute difference, in the units of the tensor.
    """

    sqnr: float
    cosine: float
    largest: float


@dataclass(frozen=True)
class LayerErrors:
    """What a twin shows over all samples.

    Attributes:
        alone: the error of each layer from float inputs, rounded by its own pairs; by key.
        accumulated: the error of each layer in the Q/DQ graph; by key.
        clipped: the share of values, 0 to 1, that a pair clips: those whose nearest integer is beyond the range of its
            integers; by the output of its DequantizeLinear.
        samples: the number of samples.
    """

    alone: dict[str, LayerError]
    accumulated: dict[str, LayerError]
    clipped: dict[str, float]
    samples: int


def runs(
    twin: Twin,
    feeds: Feeds,
    folder: Path,
    provider: str = "cpu",
    *,
    memory: int = DEFAULT_MEMORY,
    results: Iterable[str] | None = None,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yields the results of a twin for each sample, by output name.

    Args:
        twin: the network.
        feeds: the samples.
        folder: where external data lie.
        provider: "cpu" or "cuda".
        memory: the limit for the peak resident memory of the process, in bytes.
        results: the outputs of the twin to compute; all by default.

    Raises:
        ModelError: onnxruntime is missing, or cannot run the twin, or one node alone needs more memory.
    """
    wanted = dict.fromkeys(o.name for o in twin.model.graph.output) if results is None else dict.fromkeys(results)
    running = Running(twin.model, folder, tuple(wanted), memory, provider)
    for feed in feeds:
        yield dict(running.run(feed))


def layer_errors(
    twin: Twin,
    feeds: Feeds,
    folder: Path,
    *,
    provider: str = "cpu",
    memory: int = DEFAULT_MEMORY,
    progress: Progress = log_step,
) -> LayerErrors:
    """The errors of all layers of a twin.

    Args:
        twin: the network.
        feeds: the samples.
        folder: where external data lie.
        provider: "cpu" or "cuda".
        memory: as for `runs`.
        progress: called with one line after each sample.

    Raises:
        ModelError: as `runs`.
    """
    every = (*twin.alone, *twin.accumulated)
    found = {compared: np.zeros(len(compared.sums)) for compared in every}
    counts = {clipping: np.zeros(len(clipping.sums)) for clipping in twin.clipping}
    number = 0
    for number, results in enumerate(runs(twin, feeds, folder, provider, memory=memory), 1):
        for compared in every:
            mine = np.array([float(results[name]) for name in compared.sums])
            found[compared][:-1] += mine[:-1]
            found[compared][-1] = np.maximum(found[compared][-1], mine[-1])
        for clipping in twin.clipping:
            counts[clipping] += [float(results[name]) for name in clipping.sums]
        progress(f"compared layers on sample {number}{of_all(feeds)}")
    alone, accumulated = (
        {c.layer: _error(*map(float, found[c])) for c in each} for each in (twin.alone, twin.accumulated)
    )
    clipped = {c.tensor: float(counts[c][0] / max(1, counts[c][1])) for c in twin.clipping}
    return LayerErrors(alone, accumulated, clipped, number)


def _error(signal: float, noise: float, found: float, product: float, largest: float) -> LayerError:
    if not all(map(math.isfinite, (signal, noise, found, product))):
        return LayerError(math.nan, math.nan, largest)
    norms = math.sqrt(signal) * math.sqrt(found)
    return LayerError(sqnr(signal, noise), product / norms if norms else math.nan, largest)


@dataclass(frozen=True, eq=False)
class Shift:
    """How far quantization shifts the channels of a layer's output on one sample, from the layer alone.

    Attributes:
        mean: [C] mean difference of each channel, float64.
        square: [C] mean squared difference of each channel, float64.
        signal, noise: Σ float² and Σ difference² of the whole output.
    """

    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    signal: float
    noise: float


def shifts(
    twin: Twin, feeds: Feeds, folder: Path, provider: str = "cpu", *, memory: int = DEFAULT_MEMORY
) -> list[dict[str, Shift]]:
    """The shift of each layer with a channel axis, by key, for each sample; arguments as for `runs`.

    Raises:
        ModelError: as `runs`.
    """
    measured, found = [c for c in twin.alone if c.mean], runs(twin, feeds, folder, provider, memory=memory)
    return [{c.layer: _shift(each, c) for c in measured} for each in found]


def _shift(found: Mapping[str, NDArray[Any]], compared: Compared) -> Shift:
    signal, noise = (float(found[name]) for name in compared.sums[:2])
    return Shift(found[compared.mean].astype(np.float64), found[compared.square].astype(np.float64), signal, noise)

"""`measure`: runs a float network on samples and counts the values of its sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from ..data.samples import Samples
from .counting import Counter
from .floating import FloatModel
from .running import DEFAULT_MEMORY, Running
from .sites import reshaped, sites_of
from .statistics import Statistics


def measure(
    network: FloatModel,
    data: Samples,
    sites: Sequence[str] | None = None,
    *,
    memory: int = DEFAULT_MEMORY,
    provider: str = "cpu",
    progress: Callable[[str], None] = lambda message: None,
) -> Statistics:
    """Ranges and histograms of sites, sample by sample.

    Args:
        network: the network without quantization.
        data: the samples.
        sites: the tensors to measure, of type FP32 or FP16; those of `sites_of` by default.
        memory: the limit for the peak resident memory of the process, in bytes; independent of the number of samples.
        provider: "cpu" or "cuda".
        progress: called with one line before each sample.

    Raises:
        ModelError: the network cannot run, a sample does not fit it, there are none, onnxruntime is missing, or one
            node alone needs more memory.
        CalibrationError: a site is not a tensor of the network.
    """
    names = sites_of(network) if sites is None else tuple(dict.fromkeys(sites))
    same = reshaped(network)
    counters = {same.get(name, name): Counter() for name in names}
    observe(network, data, counters, memory=memory, provider=provider, progress=progress)
    found = {name: counter.spread() for name, counter in counters.items()}
    spreads = {name: found[same.get(name, name)] for name in names}
    return Statistics(spreads, network.digest, data.digest, len(data), data.description)


class Observer(Protocol):
    """Takes the values of one tensor."""

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps."""

    def add(self, array: np.ndarray) -> None:
        """Takes the values of the next sample."""


def observe(
    network: FloatModel,
    data: Samples,
    observers: Mapping[str, Observer],
    *,
    memory: int = DEFAULT_MEMORY,
    provider: str = "cpu",
    progress: Callable[[str], None] = lambda message: None,
    what: str = "measuring",
) -> None:
    """Runs a network on samples and gives the values of tensors to their observers, sample by sample.

    Args:
        network: the network without quantization.
        data: the samples.
        observers: what takes the values of each tensor, by its name.
        memory, provider: as `measure`.
        progress: called with one line before each sample, which begins with `what`.
        what: what is done, for `progress`.

    Raises:
        ModelError, CalibrationError: as `measure`.
    """
    reserved = sum(observer.nbytes for observer in observers.values())
    running = Running(network.model, network.folder, tuple(observers), memory, provider, reserved)
    total = f" of {data.expected}" if data.expected else ""
    for index, feed in enumerate(data, 1):
        progress(f"{what} sample {index}{total}")
        for name, array in running.run(feed):
            observers[name].add(array)

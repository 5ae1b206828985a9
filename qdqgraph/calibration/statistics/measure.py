"""`measure`: runs a float network on samples and counts the values of its sites."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from ...log import Progress, log_step
from ..data.samples import Samples, of_all
from .counting import Counter, Extent
from .floating import FloatModel
from .running import DEFAULT_MEMORY, Running
from .sites import reshaped, sites_of
from .spread import Spread
from .statistics import Statistics


def measure(
    network: FloatModel,
    data: Samples,
    sites: Sequence[str] | None = None,
    *,
    counted: Collection[str] | None = None,
    memory: int = DEFAULT_MEMORY,
    provider: str = "cpu",
    progress: Progress = log_step,
) -> Statistics:
    """Ranges and histograms of sites, sample by sample.

    Args:
        network: the network without quantization.
        data: the samples.
        sites: the tensors to measure, of type FP32 or FP16; those of `sites_of` by default.
        counted: the sites with histograms; all by default. The histograms of the others are counted in one more pass,
            when one of them is asked for; what they contain does not depend on this.
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
    sources = {name: same.get(name, name) for name in names}
    first = set(sources.values()) if counted is None else {sources.get(name, name) for name in counted}
    observers: dict[str, Extent] = {s: Counter() if s in first else Extent() for s in sources.values()}
    passed = partial(observe, network, data, memory=memory, provider=provider, progress=progress)
    passed(observers)
    counters = {name: each for name, each in observers.items() if isinstance(each, Counter)}
    late = tuple(name for name in observers if name not in counters)

    def rest() -> dict[str, Counter]:
        found = {name: Counter() for name in late}
        passed(found, what="counting values of")
        return found

    amax = {name: observers[source].amax for name, source in sources.items()}
    spreads = _Spreads(sources, {name: counter.spread() for name, counter in counters.items()}, rest)
    return Statistics(spreads, amax, network.digest, data.digest, len(data), data.description)


class _Spreads(Mapping[str, Spread]):
    """The values of sites; those without a histogram are counted together when one of them is asked for.

    Args:
        sources: the tensor that has the values of each site.
        counted: the values of tensors, by name.
        rest: counts the other tensors.
    """

    def __init__(
        self, sources: Mapping[str, str], counted: Mapping[str, Spread], rest: Callable[[], Mapping[str, Counter]]
    ) -> None:
        self._sources, self._counted, self._rest = sources, dict(counted), rest

    def __getitem__(self, site: str) -> Spread:
        source = self._sources[site]
        if source not in self._counted:
            self._counted.update({name: counter.spread() for name, counter in self._rest().items()})
        return self._counted[source]

    def __contains__(self, site: object) -> bool:
        return self._sources.get(str(site)) in self._counted  # asking for others counts them

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


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
    progress: Progress = log_step,
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
    for index, feed in enumerate(data, 1):
        progress(f"{what} sample {index}{of_all(data)}")
        for name, array in running.run(feed):
            observers[name].add(array)

"""`Channels`: how large the values of each channel of a tensor are, measured on samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...log import Progress, log_step
from ...model.runtime import Feeds
from ..statistics.floating import FloatModel
from ..statistics.running import Running


@dataclass(frozen=True, eq=False)
class Channels:
    """The values of a tensor, by channel, over all samples.

    Attributes:
        largest: [C] the largest magnitudes, in the units of the tensor.
        square: [C] the mean squares.
    """

    largest: NDArray[np.float64]
    square: NDArray[np.float64]


def measured(
    network: FloatModel,
    tensors: Sequence[str],
    feeds: Feeds,
    *,
    memory: int,
    provider: str = "cpu",
    progress: Progress = log_step,
) -> dict[str, Channels]:
    """The channels, axis 1, of tensors of a network without pairs; of those that are finite.

    Args:
        network: the network.
        tensors: names of its tensors.
        feeds: the samples.
        memory: the limit for the peak resident memory of the process, in bytes.
        provider: "cpu" or "cuda".
        progress: called with one line before each sample.

    Raises:
        ModelError: onnxruntime is missing, or cannot run the network, or one node alone needs more memory.
    """
    running = Running(network.model, network.folder, tensors, memory, provider)
    largest: dict[str, list[NDArray[np.float64]]] = {name: [] for name in tensors}
    squares: dict[str, list[NDArray[np.float64]]] = {name: [] for name in tensors}
    for index, feed in enumerate(feeds, 1):
        progress(f"measuring channels on sample {index} of {len(feeds)}")
        for name, array in running.run(feed):
            places, axes = list(range(array.ndim)), (0, *range(2, array.ndim))
            if array.size:
                largest[name].append(np.maximum(array.max(axis=axes), -array.min(axis=axes)).astype(np.float64))
                sums = np.einsum(array, places, array, places, [1], dtype=np.float64)
                squares[name].append(sums * array.shape[1] / array.size)
    found = {
        name: Channels(np.max(largest[name], axis=0), np.mean(squares[name], axis=0))
        for name in largest
        if largest[name]
    }
    return {n: c for n, c in found.items() if np.isfinite(c.largest).all() and np.isfinite(c.square).all()}

"""The scale with the least error at the layers that read a tensor.

The squared error of a tensor counts all its values alike, a layer does not: a depthwise convolution multiplies a
channel of small values by large weights, so a scale that clips a few large values can halve the error of its output.
Each sample counts alike: in a sum over all samples, a few with large values would decide for all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...graph.graph import Graph, key
from ...graph.pair import pairs
from ...log import Progress, log_step
from ..data.samples import of_all
from ..statistics.floating import FloatModel
from ..statistics.running import DEFAULT_MEMORY
from .errors import runs
from .twin import layers, twin

LAYER_ERROR_SHARE = 0.95
"""A candidate replaces the first one if its error is at most this share of the first one's."""


def least_at_layers(
    graph: Graph,
    network: FloatModel,
    groups: Sequence[Sequence[str]],
    candidates: Sequence[Sequence[float]],
    feeds: Iterable[Mapping[str, np.ndarray]],
    provider: str = "cpu",
    *,
    memory: int = DEFAULT_MEMORY,
    progress: Progress = log_step,
) -> list[int]:
    """The index of the best candidate for each group: the least sum over its layers of noise relative to the signal.

    A layer is computed from the float network's values, rounded with the candidate, and its noise is divided by its
    signal in each sample. The first candidate of a group
    stays unless another one is clearly better, or if no layer that can be measured reads the group.

    Args:
        graph: the Q/DQ graph.
        network: its float network.
        groups: sites that share a scale.
        candidates: scales of each group, equally many, the preferred one first.
        feeds: the samples.
        provider: "cpu" or "cuda".
        memory: the limit for the peak resident memory of the process, in bytes.
        progress: called with one line after each sample.

    Raises:
        ModelError: onnxruntime is missing, or cannot run the network, or one node alone needs more memory.
    """
    if not groups:
        return []
    count = len(candidates[0])
    variants = [
        {site: scales[index] for sites, scales in zip(groups, candidates, strict=True) for site in sites}
        for index in range(count)
    ]
    compared_layers = twin(graph, network, layers(graph), variants=variants)
    noise = {compared.layer: np.zeros(count) for compared in compared_layers.alone}
    wanted = [name for compared in compared_layers.alone for name in compared.sums[:2]]
    found = runs(compared_layers, feeds, network.folder, provider, memory=memory, results=wanted)
    for number, results in enumerate(found, 1):
        for compared in compared_layers.alone:
            signal, difference = (float(results[name]) for name in compared.sums[:2])
            if signal > 0 and math.isfinite(difference):
                noise[compared.layer][compared.variant] += difference / signal
        progress(f"compared scales at the layers on sample {number}{of_all(feeds)}")
    readers = _readers(graph)
    return [_best([noise[n] for s in sites for n in readers.get(s, ()) if n in noise], count) for sites in groups]


def _readers(graph: Graph) -> dict[str, set[str]]:
    """The keys of the layers that read each site through a pair."""
    found: dict[str, set[str]] = {}
    for pair in pairs(graph):
        for dequantize in pair.dequantizes:
            found.setdefault(pair.site, set()).update(key(r.node) for r in graph.readers(key(dequantize)))
    return found


def _best(noise: Sequence[np.ndarray], count: int) -> int:
    errors = np.sum(noise, axis=0) if noise else np.zeros(count)
    index = int(np.argmin(errors))
    return index if errors[index] < LAYER_ERROR_SHARE * errors[0] else 0

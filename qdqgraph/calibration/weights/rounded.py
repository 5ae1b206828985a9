"""`rounded_weights`: the integers of weights that give their layers the least error, judged on held-back samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...graph.amax import INT8_BOUND
from ...graph.graph import Graph, key
from ...graph.pair import Pair
from ...log import Progress, log_step
from ...proposals.weights import pair_readers
from ..data.samples import Samples
from ..sqnr import limited, sqnr
from ..statistics.floating import FloatModel
from .inputs import Inputs, inputs_of
from .known import known_weights
from .rounding import output_error, rounded


@dataclass(frozen=True, eq=False)
class RoundedWeights:
    """Integers of one pair of weights.

    Attributes:
        pair: the pair.
        layer: the key of the first layer that reads it.
        integers: INT8, in the shape of the weights.
        before, after: SQNR in dB of the layers' outputs on the held-back samples, of the rounding of the weights alone:
            with the nearest integers, and with these.
    """

    pair: Pair
    layer: str
    integers: NDArray[np.int8]
    before: float
    after: float


def rounded_weights(
    graph: Graph,
    network: FloatModel,
    reference: Mapping[str, np.ndarray],
    data: Samples,
    *,
    memory: int,
    wanted: Callable[[str, str], bool] = lambda layer, name: True,
    provider: str = "cpu",
    progress: Progress = log_step,
) -> tuple[int, tuple[RoundedWeights, ...]]:
    """The number of weights that could be rounded otherwise, and the integers of those whose layers have a smaller
    error then, in file order.

    Every second sample gives the integers (see `rounding`), from the float network's values as the Q/DQ graph rounds
    them; the others judge them. Weights must have known values, and layers that are convolutions or products of
    matrices.

    Args:
        graph: the Q/DQ graph.
        network: its float network.
        reference: values before quantization, by the output of the DequantizeLinear of stored integers.
        data: the samples, two or more.
        memory: the limit for the peak resident memory of the process, in bytes.
        wanted: chooses layers by their keys and the names of their nodes.
        provider: "cpu" or "cuda".
        progress: called with one line before each sample and each layer.

    Raises:
        ModelError: as `inputs_of`.
    """
    known = [
        each
        for each in known_weights(graph, reference)
        if all(wanted(key(r.node), str(r.node.name)) for r in pair_readers(graph, each.pair))
    ]
    examined, found = 0, []
    for inputs in inputs_of(
        graph, network, known, data, rounds=True, memory=memory, provider=provider, progress=progress
    ):
        examined += 1
        progress(f"rounding the weights of layer {key(inputs.products[0].node)!r}")
        if (better := _better(inputs)) is not None:
            found.append(better)
    return examined, tuple(found)


def _better(inputs: Inputs) -> RoundedWeights | None:
    """The integers of one pair; None if they do not lower the error on the held-back samples, or an output
    has several scales."""
    columns, scales, product = inputs.columns, inputs.scales, inputs.products[0]
    if (scales != scales[..., :1]).any():  # along the inputs of an output, so that steps differ in size
        return None
    target = columns / scales
    given, held = inputs.grams
    integers = np.stack([rounded(t, gram) for t, gram in zip(target, given, strict=True)])
    nearest = np.clip(np.rint(target), -INT8_BOUND, INT8_BOUND)
    signal = output_error(columns, np.zeros_like(columns), held).sum()
    before, after = (output_error(each * scales, columns, held).sum() for each in (nearest, integers))
    if not after < before or not signal > 0:
        return None
    ratios = (limited(sqnr(signal, max(0.0, noise))) for noise in (before, after))
    weights = np.ascontiguousarray(product.weights(integers).astype(np.int8))
    return RoundedWeights(inputs.known.pair, key(product.node), weights, *ratios)

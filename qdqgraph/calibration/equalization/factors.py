"""The factors of a link: powers of two with the least expected rounding error at the second layer.

Source of the method: M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
ICCV 2019, https://arxiv.org/abs/1906.04721, section 4.1, here with ranges from samples, and rounded to powers of two,
so that the network without quantization computes the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...graph.amax import INT8_BOUND
from .channels import Channels

MOST = 16.0
"""The largest factor between two channels of a link."""
LINK_ERROR_SHARE = 0.63
"""Factors change only if the expected error falls to this share: 2 dB. So a network that was equalized mostly stays as
it is on other samples."""
POWERS = (0.25, 0.5, 0.75, 1.0)
"""Shares, in powers, of the difference between the channels that the factors take away."""
BALANCED = (0.25, 0.5)
"""The same for activations relative to the weights that multiply them; 0.5 is that of the source."""


@dataclass(frozen=True, eq=False)
class Factors:
    """The factors of a link.

    Attributes:
        values: [C] powers of two; the first layer's outputs are divided by them, and the second one's inputs
            multiplied.
        before, after: the expected SQNR of the second layer's output in dB, without and with them.
    """

    values: NDArray[np.float64]
    before: float
    after: float


def factors(blocks: NDArray[np.floating], channels: Channels) -> Factors | None:
    """The factors with the least expected error; None if none is clearly better.

    The expected error is that of independent, uniform rounding: of the activations with one scale, and of the weights
    with a scale per output.

    Args:
        blocks: the second layer's weights, [groups, outputs of a group, inputs of a group, kernel].
        channels: the values of its input.
    """
    weights = blocks.astype(np.float64)
    groups, _, width, _ = weights.shape
    reach = np.abs(weights).max(axis=(1, 3)).reshape(-1)
    live = (channels.largest > 0) & (reach > 0)
    if channels.largest.size != groups * width or not live.any() or not np.isfinite(weights).all():
        return None
    values = np.ones(live.shape)
    own = noise = _noise(weights, channels, values)
    while True:  # each round takes a third off the error, so there are few
        largest, scaled = channels.largest / values, reach * values
        tried = [_limited(values * step, live) for step in _candidates(largest, scaled, live)]
        best = min(tried, key=lambda each: _noise(weights, channels, each))
        if not _noise(weights, channels, best) < LINK_ERROR_SHARE * noise:
            break
        values, noise = best, _noise(weights, channels, best)
    if (values == 1).all():
        return None
    signal = float(np.einsum("goik,goik,gi->", weights, weights, channels.square.reshape(groups, width)))
    return Factors(values, *(10 * math.log10(max(signal, np.finfo(float).tiny) / each) for each in (own, noise)))


def _candidates(
    largest: NDArray[np.float64], reach: NDArray[np.float64], live: NDArray[np.bool_]
) -> Iterator[NDArray[np.float64]]:
    a, w = np.where(live, largest, 1.0), np.where(live, reach, 1.0)
    yield from (a**power for power in POWERS)
    yield from ((a / w) ** power for power in BALANCED)


def _limited(values: NDArray[np.float64], live: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The nearest powers of two from 1 / MOST to 1; 1 for a channel of zeros."""
    steps = np.rint(np.log2(values / values[live].max()))
    return np.where(live, np.exp2(np.clip(steps, -math.log2(MOST), 0)), 1.0)


def _noise(weights: NDArray[np.float64], channels: Channels, values: NDArray[np.float64]) -> float:
    """The expected squared error of the second layer's outputs, summed over channels, at one position."""
    groups, _, width, kernel = weights.shape
    scaled = weights * values.reshape(groups, 1, width, 1)
    step = (channels.largest / values).max() / INT8_BOUND
    activations = step**2 * np.square(scaled).sum()
    steps = np.abs(scaled).max(axis=(2, 3)) / INT8_BOUND
    power = (channels.square / values**2).reshape(groups, width).sum(axis=1) * kernel
    return float(activations + (steps**2 * power[:, None]).sum()) / 12

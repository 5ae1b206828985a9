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
WORTH = 0.8
"""A link keeps its channels as they are unless the expected error falls to this share: 1 dB. So a network that was
equalized stays as it is on other samples."""
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
    one = np.ones(live.shape)
    own = _noise(weights, channels, one)
    best = min(_candidates(channels.largest, reach, live), key=lambda values: _noise(weights, channels, values))
    noise = _noise(weights, channels, best)
    if not noise < WORTH * own:
        return None
    signal = float(np.einsum("goik,goik,gi->", weights, weights, channels.square.reshape(groups, width)))
    return Factors(best, *(10 * math.log10(max(signal, np.finfo(float).tiny) / each) for each in (own, noise)))


def _candidates(
    largest: NDArray[np.float64], reach: NDArray[np.float64], live: NDArray[np.bool_]
) -> Iterator[NDArray[np.float64]]:
    a, w = np.where(live, largest, 1.0), np.where(live, reach, 1.0)
    for values in (*(a**p for p in POWERS), *((a / w) ** p for p in BALANCED)):
        steps = np.rint(np.log2(values / values[live].max()))
        yield np.where(live, np.exp2(np.clip(steps, -math.log2(MOST), 0)), 1.0)


def _noise(weights: NDArray[np.float64], channels: Channels, values: NDArray[np.float64]) -> float:
    """The expected squared error of the second layer's outputs, summed over channels, at one position."""
    groups, _, width, kernel = weights.shape
    scaled = weights * values.reshape(groups, 1, width, 1)
    step = (channels.largest / values).max() / INT8_BOUND
    activations = step**2 * np.square(scaled).sum()
    steps = np.abs(scaled).max(axis=(2, 3)) / INT8_BOUND
    power = (channels.square / values**2).reshape(groups, width).sum(axis=1) * kernel
    return float(activations + (steps**2 * power[:, None]).sum()) / 12

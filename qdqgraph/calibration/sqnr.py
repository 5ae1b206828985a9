"""`sqnr`: signal to quantization-noise ratio in decibels."""

from __future__ import annotations

import math

EXACT = 144.0
"""dB: the most that is told apart, the resolution of FP32 (2**-24)."""


def sqnr(signal: float, noise: float) -> float:
    """10·log10(signal / noise) in dB.

    Args:
        signal: Σ reference ** 2.
        noise: Σ difference ** 2.

    Returns:
        inf without noise, -inf without a signal, nan if one is not finite.
    """
    if not math.isfinite(signal) or not math.isfinite(noise):
        return math.nan
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def limited(value: float) -> float:
    """An SQNR from -`EXACT` to `EXACT`, as means of several need it: `EXACT` without noise, -`EXACT` for nan."""
    return -EXACT if math.isnan(value) else max(-EXACT, min(EXACT, value))

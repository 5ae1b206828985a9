"""Scales of weights whose float values are known: those that fit without clipping, and those of the least error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...graph.amax import INT8_BOUND
from ...proposals.weights import symmetric_scale

FRACTIONS = np.linspace(1, 0.5, 21)
"""Scales to try, relative to the one without clipping."""
LARGE, BLOCK = 1 << 20, 1 << 17
"""Weights from which on errors are summed in blocks of so many: in float64, a layer would take ten times its size."""
WEIGHT_ERROR_SHARE = 0.8
"""A channel keeps its scale unless the squared error at another one is at most this share of its own. Scales that are
almost alike round weights differently by chance: on ResNet-50 (opennsfw), 2 * amax / 255 and amax / 127 differ by 2 dB
at the outputs, and by nothing in the error of the weights."""


def fitting(reals: np.ndarray, axis: int | None, own: np.ndarray) -> np.ndarray:
    """The symmetric INT8 scales that fit weights without clipping; arguments and result as `least_squares`."""
    return symmetric_scale(reals, axis, own.dtype)


def least_squares(reals: np.ndarray, axis: int | None, own: np.ndarray) -> np.ndarray:
    """The symmetric INT8 scales with the least squared error of the weights.

    Args:
        reals: finite weights of any shape.
        axis: the channel axis; None for one scale.
        own: the scales that they have, [], [1] or [C]; they stay where no other one is clearly better.

    Returns:
        [] or [C] scales of the same type: own ones, or from half of those without clipping to these.
    """
    top = symmetric_scale(reals, axis, own.dtype)
    best, least = top, np.full(top.shape, np.inf)
    for fraction in FRACTIONS:
        scale = np.asarray(top * fraction, own.dtype)
        found = _error(reals, scale, axis)
        best, least = np.where(found < least, scale, best), np.minimum(found, least)
    now = np.broadcast_to(own.reshape(-1) if own.size > 1 else own.reshape(()), top.shape)
    return np.asarray(np.where(least < WEIGHT_ERROR_SHARE * _error(reals, now, axis), best, now), own.dtype)


def _error(reals: np.ndarray, scale: np.ndarray, axis: int | None) -> NDArray[np.float64]:
    """The squared error of each channel, summed; infinite at a scale that is not positive and finite."""
    if axis is None:
        flat = reals.reshape(-1)
        parts = [flat[i : i + BLOCK] for i in range(0, flat.size, BLOCK)] if flat.size > LARGE else [reals]
        found = np.asarray(sum(_squares(part, scale, None) for part in parts))
    else:
        rows = reals.size if reals.size <= LARGE else max(1, BLOCK * reals.shape[axis] // reals.size)
        places = [(slice(None),) * axis + (slice(i, i + rows),) for i in range(0, reals.shape[axis], rows)]
        found = np.concatenate([_squares(reals[at], scale[at[axis]], axis) for at in places])
    return np.where((scale > 0) & np.isfinite(found), found, np.inf)


def _squares(reals: np.ndarray, scale: np.ndarray, axis: int | None) -> NDArray[np.float64]:
    """The squared error of each channel, summed; of all values without an axis."""
    others = None if axis is None else tuple(i for i in range(reals.ndim) if i != axis)
    with np.errstate(all="ignore"):
        return np.asarray((_difference(reals, scale, axis) ** 2).sum(axis=others))


def _difference(reals: np.ndarray, scale: np.ndarray, axis: int | None) -> NDArray[np.float64]:
    """What rounding to symmetric INT8 changes."""
    along = scale.astype(np.float64)
    if axis is not None:
        along = along.reshape([-1 if i == axis else 1 for i in range(reals.ndim)])
    values = reals.astype(np.float64)
    return np.asarray(np.clip(np.rint(values / along), -INT8_BOUND, INT8_BOUND) * along - values)

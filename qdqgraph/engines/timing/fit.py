"""`fitted`: the shares of a device's figures that the kernels of profiled engines reach."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from ...errors import EngineError
from ..layers import Engine
from .device import Device
from .roofline import Roofline, Shares
from .work import works

LEAST = 8
"""Timed kernels that a fit needs: it has four figures."""
START = Shares(0.5, {"INT8": 0.5, "FP16": 0.5}, 5.0, (1.0, 1.0), "")
FACTORS = (0.5, 0.8, 1.0, 1.25, 2.0)
ROUNDS = 12

Timed = Sequence[tuple[Engine, Device]]


def fitted(engines: Timed, source: str) -> Shares:
    """The shares with the least mean |ln(estimate / measured)| over all timed kernels, by coordinate search.

    The spread is that of the engines' totals, each estimated by shares fitted to the other devices; of a single engine,
    the mean error of its kernels both ways.

    Args:
        engines: engines with a time per layer, and where they were measured.
        source: says what these are.

    Raises:
        EngineError: fewer than `LEAST` kernels have a time.
    """
    shares = replace(_search(engines), source=source)
    if len(engines) == 1:
        error = math.exp(layer_error(shares, *engines[0]))
        return replace(shares, spread=(1 / error, error))
    ratios = []
    for engine, device in engines:
        measured, estimated = _times(_search(without(engines, device)), engine, device)
        ratios.append(float(measured.sum() / estimated.sum()))
    return replace(shares, spread=(min(ratios), max(ratios)))


def without(engines: Timed, device: Device) -> Timed:
    """The engines of other devices; if there are none, all."""
    return [found for found in engines if found[1] != device] or engines


def layer_error(shares: Shares, engine: Engine, device: Device) -> float:
    """The mean |ln(estimate / measured)| of the timed kernels of an engine."""
    measured, estimated = _times(shares, engine, device)
    return float(np.mean(np.abs(np.log(estimated / measured))))


def _times(shares: Shares, engine: Engine, device: Device) -> tuple[np.ndarray, np.ndarray]:
    roofline = Roofline(device, shares)
    rows = [(work.layer.time_ms, roofline.row(work).ms) for work in works(engine) if work.layer.time_ms]
    measured, estimated = np.array(rows, np.float64).reshape(-1, 2).T
    return measured, estimated


def _search(engines: Timed) -> Shares:
    kernels = [(work, device) for engine, device in engines for work in works(engine) if work.layer.time_ms]
    if len(kernels) < LEAST:
        raise EngineError(f"{len(kernels)} layers have a time; a fit needs {LEAST}: give a profile of the whole engine")
    moved = np.array([work.bytes / device.bandwidth for work, device in kernels])
    int8 = np.array([work.precision == "INT8" for work, _ in kernels])
    computed = np.array([work.operations / device.peak(work.precision) for work, device in kernels])
    measured = np.log([(work.layer.time_ms or 0.0) / 1e3 for work, _ in kernels])

    def error(values: np.ndarray) -> float:
        bandwidth, narrow, wide, launch = values
        longest = np.maximum(moved / bandwidth, computed / np.where(int8, narrow, wide))
        return float(np.mean(np.abs(np.log(longest + launch * 1e-6) - measured)))

    best = np.array([START.bandwidth, START.peaks["INT8"], START.peaks["FP16"], START.launch_us])
    least = error(best)
    for number in range(ROUNDS):
        steps = [factor ** (1 / (1 + number)) for factor in FACTORS]
        for choice in product(steps, repeat=4):
            values = np.minimum(best * choice, [1.0, 1.0, 1.0, 100.0])
            if (found := error(values)) < least:
                best, least = values, found
    bandwidth, narrow, wide, launch = (float(f"{value:.3g}") for value in best)
    peaks: Mapping[str, float] = {"INT8": narrow, "FP16": wide}
    return Shares(bandwidth, peaks, launch, (1.0, 1.0), "")

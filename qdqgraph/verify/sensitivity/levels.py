"""`Level`: how close the outputs of a network are to those of its float network, and the score of its task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from ...calibration.sqnr import limited, sqnr


@dataclass(frozen=True)
class Level:
    """What a network with some units quantized produces."""

    sqnr_db: Annotated[
        float | None,
        Meta(
            description="SQNR against the float network in dB: the mean of the floating-point outputs; from -144 (not "
            "finite, or another shape) to 144 (no difference). Null without samples."
        ),
    ]
    outputs_db: Annotated[dict[str, float], Meta(description="The SQNR of each floating-point output.")]
    score: Annotated[float | None, Meta(description="The score of the task, higher is better; null without --eval.")]


@dataclass(frozen=True)
class Sampled(Level):
    """A level, and that of each sample."""

    samples_db: Annotated[
        tuple[float, ...],
        Meta(description="The SQNR of each sample, in order: the mean of the floating-point outputs."),
    ] = ()


@dataclass(eq=False)
class Noise:
    """The noise of outputs, added up over samples.

    Attributes:
        names: the outputs, in order.
        signal: Σ float², by output.
        noise: Σ difference², by output; not a number if a value is not finite or a shape differs.
        samples_db: the SQNR of each sample.
    """

    names: Sequence[str]
    signal: dict[str, float] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)
    samples_db: list[float] = field(default_factory=list)

    def add(self, reference: Sequence[Any], found: Sequence[Any]) -> None:
        """Adds a sample: the outputs of the float network, and those of the network to compare."""
        levels = []
        for name, a, b in zip(self.names, map(np.asarray, reference), map(np.asarray, found), strict=True):
            if a.dtype.kind != "f":
                continue
            wide = a.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # an output may be infinite or NaN
                noise = math.nan if a.shape != b.shape else float(np.sum((b.astype(np.float64) - wide) ** 2))
                signal = float(np.sum(wide**2))
            self.signal[name] = self.signal.get(name, 0.0) + signal
            self.noise[name] = self.noise.get(name, 0.0) + noise
            levels.append(limited(sqnr(signal, noise)))
        if levels:
            self.samples_db.append(sum(levels) / len(levels))

    def level(self, score: float | None) -> Sampled:
        """The level over all samples, with this score."""
        each = {name: limited(sqnr(self.signal[name], noise)) for name, noise in self.noise.items()}
        return Sampled(sum(each.values()) / len(each) if each else None, each, score, tuple(self.samples_db))


def gain(quantized: Level, off: Level) -> float:
    """What a unit gains when it is left in float: in the score if there is one, else in dB."""
    if off.score is not None and quantized.score is not None:
        return off.score - quantized.score
    assert off.sqnr_db is not None and quantized.sqnr_db is not None
    return off.sqnr_db - quantized.sqnr_db


def cost(unquantized: Level, quantized: Level, on: Level) -> float:
    """What a unit costs when it alone is quantized: the loss of score if there is one, else its noise as a share of the
    noise of the quantized network, the mean over outputs."""
    if on.score is not None and unquantized.score is not None:
        return unquantized.score - on.score
    return share(quantized, on)


def share(quantized: Level, other: Level) -> float:
    """The noise of a level as a share of that of the quantized network, the mean over outputs; there is one."""
    shares = [10 ** ((quantized.outputs_db[name] - found) / 10) for name, found in other.outputs_db.items()]
    return sum(shares) / len(shares)

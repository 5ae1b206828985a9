"""`Roofline`: the time of a kernel on a device: the larger of moving and computing, and a constant for its launch.

It ranks engines of one network. It does not predict times: see `Shares.spread`, and docs/measurements/forecast.md for
the comparison with published engines. Source of the model: Williams et al.,
"Roofline: an insightful visual performance model", 2009.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...graph.graph import Graph
from ...versions import tomllib
from ..layers import Engine
from .device import Device
from .work import Work, works

CLOSE = 0.15
"""Two times of which the larger exceeds the smaller by no more than this share are not ranked. Of the pairs in
docs/measurements/forecast.md, the one that is ranked wrong differs by 14 %."""


@dataclass(frozen=True)
class Shares:
    """How much of a datasheet's figures kernels reach.

    Attributes:
        bandwidth: share of the memory's bandwidth.
        peaks: share of the peak, by precision; others have that of FP16.
        launch_us: microseconds that a kernel takes however small it is.
        spread: the real time of an engine divided by the estimate: the least and the most among the engines that the
            shares were fitted to, each estimated by shares of the other devices.
        source: what they were fitted to.
    """

    bandwidth: float
    peaks: Mapping[str, float]
    launch_us: float
    spread: tuple[float, float]
    source: str

    def peak(self, precision: str) -> float:
        """The share of the peak in a precision."""
        return self.peaks.get(precision, self.peaks["FP16"])


@cache
def default_shares() -> Shares:
    """The shares fitted to published engines, from `shares.toml`; `benchmarks/timing_table.py` computes them."""
    data = tomllib.loads((Path(__file__).parent / "shares.toml").read_text(encoding="utf-8"))
    low, high = data["spread"]
    return Shares(data["bandwidth"], data["peaks"], data["launch_us"], (low, high), data["source"])


@dataclass(frozen=True)
class Row:
    """The estimate for one kernel.

    Attributes:
        work: the kernel and its work.
        ms: milliseconds.
        bound: what takes the time: "memory", "compute", or "launch" if that is more than both.
    """

    work: Work
    ms: float
    bound: str


@dataclass(frozen=True)
class Estimate:
    """The estimated time of an engine.

    Attributes:
        engine: the engine.
        device: the device.
        rows: one for each kernel, in execution order.
        low, high: milliseconds, by the spread of the shares.
    """

    engine: Engine
    device: Device
    rows: tuple[Row, ...]
    low: float
    high: float

    def __repr__(self) -> str:
        times = f"{self.ms:.4g} ms ({self.low:.4g} to {self.high:.4g})"
        return f"<Estimate of {self.engine.name!r} on {self.device.name}: {times}>"

    @property
    def ms(self) -> float:
        """Milliseconds of all kernels."""
        return sum(row.ms for row in self.rows)

    def close_to(self, other: Estimate) -> bool:
        """Whether the two times are too close to be ranked."""
        return close(self.ms, other.ms)


def close(one: float, other: float) -> bool:
    """Whether two estimated times, in milliseconds, are too close to be ranked."""
    least, most = sorted((one, other))
    return most <= least * (1 + CLOSE)


@dataclass(frozen=True)
class Roofline:
    """A device, and what kernels reach of it."""

    device: Device
    shares: Shares

    def row(self, work: Work) -> Row:
        """The time of one kernel."""
        moving = 1e3 * work.bytes / (self.device.bandwidth * self.shares.bandwidth)
        peak = self.device.peak(work.precision) * self.shares.peak(work.precision)
        computing, launch = 1e3 * work.operations / peak, self.shares.launch_us / 1e3
        longest = max(moving, computing)
        bound = "launch" if launch > longest else "memory" if moving >= computing else "compute"
        return Row(work, longest + launch, bound)

    def estimate(self, engine: Engine, graph: Graph | None = None, floats: str = "") -> Estimate:
        """The time of an engine; see `works` for the arguments."""
        rows = tuple(self.row(work) for work in works(engine, graph, floats))
        total, (low, high) = sum(row.ms for row in rows), self.shares.spread
        return Estimate(engine, self.device, rows, total * low, total * high)

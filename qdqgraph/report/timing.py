"""Estimated times of engines as text and JSON."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from msgspec import Meta
from rich.console import Console
from rich.text import Text

from ..engines.timing.roofline import Estimate
from .engine import show_notes
from .lines import say

SLOWEST = 10
"""Kernels that the text lists, if there is one engine."""
SCOPE = "estimates from a datasheet: they rank engines of one network and do not predict times"


@dataclass(frozen=True)
class KernelTimeRecord:
    """The estimate for one kernel."""

    name: str
    precision: str
    ms: float
    bound: Annotated[str, Meta(description='What takes the time: "memory", "compute" or "launch".')]
    bytes: Annotated[int, Meta(description="Bytes of activations and weights that it reads and writes per run.")]
    operations: Annotated[int, Meta(description="Operations of convolutions and matrix products; 0 for others.")]


@dataclass(frozen=True)
class TimeRecord:
    """The estimate for one engine; its real time is probably between `low_ms` and `high_ms`."""

    name: str
    source: str
    ms: float
    low_ms: float
    high_ms: float
    close_to_next: Annotated[bool, Meta(description="Whether the next one is too close to be ranked after it.")]
    kernels: tuple[KernelTimeRecord, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TimesRecord:
    """The output of `qdqgraph engine time --json`: engines, fastest first."""

    device: str
    engines: tuple[TimeRecord, ...]

    @classmethod
    def of(cls, found: tuple[Estimate, ...]) -> TimesRecord:
        """The record of estimates, fastest first."""
        close = _close(found)
        return cls(found[0].device.name, tuple(_record(e, near) for e, near in zip(found, close, strict=True)))


def _record(found: Estimate, close: bool) -> TimeRecord:
    kernels = tuple(
        KernelTimeRecord(r.work.layer.name, r.work.precision, r.ms, r.bound, r.work.bytes, r.work.operations)
        for r in found.rows
    )
    engine = found.engine
    return TimeRecord(engine.name, engine.source, found.ms, found.low, found.high, close, kernels, engine.notes)


def _close(found: tuple[Estimate, ...]) -> list[bool]:
    """Whether each engine's time is close to that of the next one."""
    return [*(a.close_to(b) for a, b in pairwise(found)), False]


def show_times(console: Console, found: tuple[Estimate, ...]) -> None:
    """The engines, fastest first; of a single one, the slowest kernels."""
    say(console, Text(f"{found[0].device.title}: {SCOPE}", "bold"))
    for estimate, close in zip(found, _close(found), strict=True):
        say(console, f"  {_total(estimate, found[0])}{', too close to the next to be ranked' if close else ''}")
        bounds: defaultdict[str, float] = defaultdict(float)
        for row in estimate.rows:
            bounds[row.bound] += row.ms / estimate.ms
        shares = ", ".join(
            f"{share:.0%} bound by {bound}" for bound, share in sorted(bounds.items(), key=lambda item: -item[1])
        )
        say(console, f"    {len(estimate.rows)} kernels: {shares}")
    show_notes(console, [estimate.engine for estimate in found])
    if len(found) == 1:
        say(console, Text(f"Slowest {min(SLOWEST, len(found[0].rows))} kernels", "bold"))
        for row in sorted(found[0].rows, key=lambda r: -r.ms)[:SLOWEST]:
            work = row.work
            say(
                console,
                f"  {_ms(row.ms):>9} ms  {row.bound:<8}{work.precision:<5}{work.bytes:>13,} B "
                f"{work.operations / 1e6:>11,.1f} M operations  {work.layer.name}",
            )


def _total(found: Estimate, first: Estimate) -> str:
    more = "" if found is first or not first.ms else f", {found.ms / first.ms - 1:+.0%}"
    span = f"{_ms(found.low)} to {_ms(found.high)}"
    return f"{_ms(found.ms)} ms ({span}){more}  {found.engine.name} ({found.engine.source})"


def _ms(value: float) -> str:
    """A time with three significant digits."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 3
    return f"{value:.{min(6, max(0, digits))}f}"

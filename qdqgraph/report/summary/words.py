"""Numbers in words, for the summaries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...engines.compare.diff import Diff

STEP = 1000
UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def size(count: int) -> str:
    """Returns a number of bytes with four digits at most: "0 bytes", "812 bytes", "486.4 kB", "38.36 MB"."""
    value, unit = float(count), 0
    while abs(value) >= STEP and unit < len(UNITS) - 1:
        value, unit = value / STEP, unit + 1
    if not unit:
        return f"{count} byte" if abs(count) == 1 else f"{count} bytes"
    digits = max(4 - len(str(int(abs(value)))), 0)
    return f"{value:.{digits}f} {UNITS[unit]}"


def percent(share: float) -> str:
    """Returns a share of 1 in per cent: "14.6 %", "<0.1 %", "0 %"."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %" if share else "0 %"


def decibels(sqnr: float, unit: str = " dB") -> str:
    """Returns an SQNR in dB: "41.2 dB", "exact" without a difference, "not finite" for NaN."""
    return "not finite" if math.isnan(sqnr) else "exact" if sqnr == math.inf else f"{sqnr:.1f}{unit}"


def bits_lost(bits: float) -> str:
    """Returns the resolution that a scale loses: "0.14", or "clips 1.50x" for a scale that became smaller."""
    return f"{bits:.2f}" if bits >= 0 else f"clips {2**-bits:.2f}x"


def compared(found: Diff) -> str:
    """Returns whether the second of two engines is better: "fixed.onnx is better"."""
    word = {1: "is worse", -1: "is better", 0: "is not worse"}[found.verdict[0]]
    return f"{found.b.name} {word}"

"""Numbers in words, for the summaries."""

from __future__ import annotations

STEP = 1000
UNITS = ("bytes", "kB", "MB", "GB", "TB")


def size(count: int) -> str:
    """Returns a number of bytes with four digits at most: "0 bytes", "812 bytes", "486.4 kB", "38.36 MB"."""
    value, unit = float(count), 0
    while abs(value) >= STEP and unit < len(UNITS) - 1:
        value, unit = value / STEP, unit + 1
    if not unit:
        return f"{count} byte" if abs(count) == 1 else f"{count} bytes"
    digits = 3 - len(str(int(abs(value))))
    return f"{value:.{digits + 1}f} {UNITS[unit]}"


def percent(share: float) -> str:
    """Returns a share of 1 in per cent: "14.6 %", "<0.1 %", "0 %"."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %" if share else "0 %"

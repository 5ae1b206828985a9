"""The results of all files as one Markdown page."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .engines import Result

HEAD = (
    "network", "file", "layers", "reformats", "MB", "GPU ms, median of runs (10 to 90 %)", "of FP16",
    "SQNR to ONNX Runtime, dB", "kernels as forecast", "Q/DQ reformats (forecast)",
)  # fmt: skip


def page(found: Mapping[str, Mapping[str, Result | str]], machine: Mapping[str, str], clocks: str) -> str:
    """Returns the page.

    Args:
        found: by network and file, the result, or why there is no file.
        machine: what `clocks.machine` returned.
        clocks: whether the clocks were locked.
    """
    lines = ["# Engines on one machine", "", *(f"- {key}: {value}" for key, value in machine.items())]
    lines += [f"- clocks: {clocks}", "", _row(*HEAD), _row(*("---" for _ in HEAD))]
    reasons: dict[str, list[str]] = {}
    misses: list[str] = []
    for network, files in found.items():
        half = files.get("fp16")
        base = half.median_ms if isinstance(half, Result) else None
        for file, result in files.items():
            place = f"{network} {file}"
            if isinstance(result, str) or result.failed:
                why = result if isinstance(result, str) else result.failed
                reasons.setdefault(f"no engine: {why}", []).append(place)
                lines.append(_row(network, file, *("-" for _ in HEAD[2:])))
                continue
            lines.append(_row(network, file, *_cells(result, base)))
            for title, why in (("no times", result.untimed), ("outputs not compared", result.unchecked)):
                if why:
                    reasons.setdefault(f"{title}: {why}", []).append(place)
            misses += [f"- {place}: {miss}" for miss in result.misses[:5]]
    total = sum(len(files) for files in found.values())
    lines += ["", "What is missing:", ""]
    lines += [f"- {why} ({'all files' if len(p) == total else ', '.join(p)})" for why, p in reasons.items()] or [
        "- nothing"
    ]
    lines += ["", "Where an engine is not the forecast (at most five each):", "", *(misses or ["- nowhere"]), ""]
    return "\n".join(lines)


def _cells(result: Result, base: float | None) -> tuple[str, ...]:
    spread = "" if result.spread_ms is None else f" ({result.spread_ms[0]:.3f} to {result.spread_ms[1]:.3f})"
    time = "" if result.median_ms is None else f"{result.median_ms:.3f} of {result.runs}{spread}"
    share = "" if result.median_ms is None or not base else f"{result.median_ms / base:.0%}"
    sqnr = result.sqnr_db
    exact = "" if sqnr is None else "equal" if math.isinf(sqnr) else f"{sqnr:.1f}"
    counts = (f"{result.layers}", f"{result.reformats}", f"{result.bytes / 1e6:.1f}")
    kernels = f"{result.same} of {result.predicted}"
    return (*counts, time, share, exact, kernels, f"{result.quantizers[0]} ({result.quantizers[1]})")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"

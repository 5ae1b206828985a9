"""Layers and times in a log of trtexec, or in an excerpt of one: what people post instead of the exported JSON.

A log may contain several lists, such as one of the build and one of --dumpLayerInfo; the one with most detail counts,
of equal ones the last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from . import listing, verbose

PREFIX = re.compile(r"^\s*(?:[#>*]+\s*)?(?:\[[^\]]*\]\s*)*(?:(?:VERBOSE|INFO):\s*)?")
"""A time, a severity, a logger: "[01/10/2024-21:55:12] [V] [TRT] ", "[TensorRT] VERBOSE: "."""
LIST = re.compile(r"(?:^|[\s\]])(?:Engine Layer Information|Layers):\s*$")
BINDINGS = re.compile(r"^(?:Bindings|I/O Tensors):")
INDEPENDENT = re.compile(r"\[[VIWE]\] |\[TRT\]|\[TensorRT\]")
"""A line of a log with its own prefix: it does not continue the list above it."""
PROFILE = re.compile(r"Time ?\(ms\) +Avg\. ?(?:Time ?)?\(ms\) .*?Time ?\(?%\)?(?P<last> +Layer)?")
NUMBER = r"[\d.]+(?:e[-+]?\d+)?"
NUMBERS = rf"{NUMBER}\s+(?P<average>{NUMBER})\s+(?:{NUMBER}\s+)?{NUMBER}"
"""Sum, average, from 8.5 on the median, and share of a layer."""
NAME_LAST = re.compile(rf"^\s*{NUMBERS}\s+(?P<name>\S.*?)\s*$")
NAME_FIRST = re.compile(rf"^\s*(?P<name>\S.*?)\s+{NUMBERS}\s*$")

Reader = Callable[[str], dict[str, Any]]


def rows(text: str) -> tuple[Mapping[str, Any] | str, ...]:
    """Returns the layers of the most detailed list in a log, as `Layers` of the inspector's JSON has them.

    They are names if the log contains nothing else; empty if it has no list of layers.

    Raises:
        EngineError: a line of the list has an unknown format.
    """
    for dialect in (listing, verbose):
        if found := _last(text, dialect.is_layer, dialect.row):
            return found
    return _names(text)


def _last(text: str, is_layer: Callable[[str], bool], reader: Reader) -> tuple[Mapping[str, Any], ...]:
    """Returns the rows of the last list of a dialect; a line that says "Layers:" begins another one."""
    lists: list[list[str]] = [[]]
    for line in text.splitlines():
        if LIST.search(line):
            lists.append([])
        elif is_layer(line):
            lists[-1].append(line)
    last = next((lines for lines in reversed(lists) if lines), [])
    return tuple(map(reader, last))


def _names(text: str) -> tuple[str, ...]:
    """Returns the names in the last list of an engine without details: one per line after "Layers:"."""
    lists: list[list[str]] = []
    reads = False
    for line in text.splitlines():
        name = PREFIX.sub("", line).strip() if INDEPENDENT.search(line) else line.strip()
        if LIST.search(line):
            lists.append([])
            reads = True
        elif BINDINGS.search(name) or (reads and lists[-1] and not name) or INDEPENDENT.search(line):
            reads = False
        elif reads and name:
            lists[-1].append(name)
    return tuple(next((found for found in reversed(lists) if found), []))


def profile(text: str) -> list[dict[str, object]]:
    """Returns the last table of --dumpProfile in a log, as --exportProfile writes it; empty if it has none."""
    found: list[dict[str, object]] = []
    pattern: re.Pattern[str] | None = None
    for line in text.splitlines():
        if header := PROFILE.search(line):
            pattern, found = NAME_LAST if header["last"] else NAME_FIRST, []
        elif pattern is not None and (entry := pattern.match(PREFIX.sub("", line))):
            if entry["name"] == "Total":
                pattern = None
            else:
                found.append({"name": entry["name"], "averageMs": float(entry["average"])})
    return found

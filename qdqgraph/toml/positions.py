"""Where things stand in a TOML file: tomllib gives values only, and an error without its line is half an error."""

from __future__ import annotations

import re
from collections.abc import Sequence

Path = tuple[str | int, ...]
"""("example", 1, "before"): the key `before` of the second [[example]]."""

TABLE = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?\s*(#.*)?$")
PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([\w\-]+)")
KEY = re.compile(r"\s*([\w\-]+|\"[^\"]+\")\s*=\s*(.*)")


class Lines:
    """The lines at which tables and keys of a TOML text begin, counted from 1."""

    def __init__(self, text: str) -> None:
        self._text = text.splitlines()
        self._at: dict[Path, int] = {}
        counts: dict[str, int] = {}
        table: Path = ()
        closing = ""
        for number, line in enumerate(self._text, start=1):
            if closing:
                closing = "" if closing in line else closing
                continue
            if found := TABLE.match(line):
                name = found.group(2)
                table = tuple("".join(parts) for parts in PART.findall(name))
                if found.group(1) == "[[":
                    table = (*table, counts.get(name, 0))
                    counts[name] = counts.get(name, 0) + 1
                self._at[table] = number
            elif found := KEY.match(line):
                self._at[(*table, found.group(1).strip('"'))] = number
                closing = _opened(found.group(2))

    def of(self, path: Sequence[str | int]) -> int:
        """The line of a key, else of the table it belongs to, else 1. Entries of an array are found by their number."""
        path = tuple(path)
        while path:
            if path in self._at:
                return self._at[path]
            if isinstance(path[-1], int) and path[:-1] in self._at:
                return self._entry(self._at[path[:-1]], path[-1])
            path = path[:-1]
        return 1

    def inside(self, path: Sequence[str | int], line: int) -> int:
        """The line of the file where line `line` (from 0) of a multi-line string stands."""
        start = self.of(path)
        head = self._text[start - 1] if start <= len(self._text) else ""
        opens = re.search(r"(\"\"\"|''')\s*$", head)
        return start + line + (1 if opens else 0)

    def _entry(self, start: int, index: int) -> int:
        """The line of one entry of an array of strings that begins at `start`."""
        seen = -1
        for number in range(start, len(self._text) + 1):
            line = self._text[number - 1]
            seen += len(
                re.findall(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", line.partition("=")[2] if number == start else line)
            )
            if seen >= index:
                return number
        return start


def _opened(value: str) -> str:
    """The quotes that end a multi-line string which this value opens; "" where it opens none."""
    for quotes in ('"""', "'''"):
        if value.count(quotes) == 1:
            return quotes
    return ""

"""The lines of a TOML file at which its keys, tables and array elements begin.

`tomllib` returns values without positions, so tree-sitter's TOML grammar parses the text again, but only if an error
needs a line: see `TomlFile`.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from ..versions import tomllib
from .place import Place

Path = tuple[str | int, ...]

KEYS = frozenset({"bare_key", "quoted_key", "dotted_key"})


class Positions:
    """The lines, counted from 1, on which the entries of a TOML text begin.

    Args:
        text: a document that `tomllib` accepts.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._values: dict[Path, Node] = {}
        self._lengths: dict[Path, int] = {}
        root = Parser(Language(tree_sitter_toml.language())).parse(text.encode()).root_node
        self._pairs(root, ())
        for table in root.named_children:
            if table.type in ("table", "table_array_element"):
                self._pairs(table, self._header(table))

    def line(self, place: Place) -> int:
        """The line where an entry begins; for an absent entry the line of its table, or 1."""
        path = tuple(place)
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def line_inside(self, place: Place, line: int) -> int:
        """The line of the file that contains line `line` (from 0) of the string at `place`."""
        node = self._values.get(tuple(place))
        text = _text(node) if node is not None else ""
        if node is None or not text.startswith(('"""', "'''")):
            return self.line(place)
        rows = text.split("\n")
        # Row r begins with line first[r] of the string. A backslash joins rows; an escaped "\n" splits a row in two.
        first = [-1 if rows[0].rstrip("\r") == text[:3] else 0]
        first += [str(_value_of("\n".join(rows[:end]) + "\n" + text[:3])).count("\n") for end in range(1, len(rows))]
        row = bisect_left(first, line)
        return node.start_point.row + 1 + (row if row < len(first) and first[row] == line else row - 1)

    def _header(self, table: Node) -> Path:
        """The path of a [table] or of an element of [[tables]]; below [[tables]] it belongs to the last element."""
        *parents, last = _parts(_key(table))
        row = table.start_point.row + 1
        path: Path = ()
        for part in parents:
            path = self._last((*path, part), row)
        path = (*path, last)
        if table.type == "table_array_element":
            self._lengths[path] = self._lengths.get(path, 0) + 1
            path = self._last(path, row)
        self._lines[path] = row
        return path

    def _last(self, path: Path, row: int) -> Path:
        """The path itself, or the path of its last element if it is an array of tables."""
        self._lines.setdefault(path, row)
        return (*path, self._lengths[path] - 1) if path in self._lengths else path

    def _pairs(self, table: Node, path: Path) -> None:
        """Records the `key = value` pairs of a table."""
        for pair in table.named_children:
            if pair.type == "pair":
                key = _key(pair)
                parts, row = _parts(key), key.start_point.row + 1
                for end in range(1, len(parts)):
                    self._lines.setdefault((*path, *parts[:end]), row)
                self._lines[(*path, *parts)] = row
                self._value(_values(pair)[-1], (*path, *parts))

    def _value(self, value: Node, path: Path) -> None:
        self._values[path] = value
        if value.type == "inline_table":
            self._pairs(value, path)
        if value.type == "array":
            for index, element in enumerate(_values(value)):
                self._lines[(*path, index)] = element.start_point.row + 1
                self._value(element, (*path, index))


def _key(node: Node) -> Node:
    """The key of a pair or of a table's header."""
    return next(child for child in node.named_children if child.type in KEYS)


def _values(node: Node) -> list[Node]:
    """The parts of a pair or of an array, without comments."""
    return [child for child in node.named_children if child.type != "comment"]


def _parts(key: Node) -> list[str]:
    """The parts of a dotted key, as `tomllib` reads their quotes and escapes."""
    parts: list[str] = []
    value: Any = tomllib.loads(f"{_text(key)} = 0")
    while isinstance(value, dict):
        ((part, value),) = value.items()
        parts.append(part)
    return parts


def _value_of(text: str) -> object:
    return tomllib.loads(f"x = {text}")["x"]


def _text(node: Node) -> str:
    return (node.text or b"").decode()

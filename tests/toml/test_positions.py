"""The lines of TOML files: of every key, table, array element, and line of a string, however it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdqgraph.toml.positions import Positions
from qdqgraph.versions import tomllib

Path = tuple[str | int, ...]
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\x7f", min_codepoint=0x20)
NAMES = (
    st.text("abc-_09", min_size=1, max_size=3)
    | st.text(CHARACTERS, max_size=4)
    | st.sampled_from(["a.b", "[x]", "]", '"', "'", "# c", "="])
)
LINES = st.lists(st.text(CHARACTERS, max_size=5), min_size=1, max_size=4)


@dataclass(frozen=True)
class Array:
    """An array in brackets."""

    elements: list[Any]


@dataclass(frozen=True)
class Table:
    """A table with a header, or one whose keys are dotted."""

    entries: dict[str, Any]


@dataclass(frozen=True)
class Tables:
    """An array of tables, each with a header."""

    elements: list[dict[str, Any]]


SCALARS = st.integers(-9, 9) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | LINES
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.builds(Array, st.lists(inner, max_size=3)) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TABLES = st.recursive(
    st.dictionaries(NAMES, VALUES, max_size=3),
    lambda inner: st.dictionaries(NAMES, VALUES | st.builds(Table, inner) | st.builds(Tables, st.lists(inner, min_size=1, max_size=3)), max_size=3),
    max_leaves=6,
)  # fmt: skip


@dataclass
class Writer:
    """Writes a document in one of the many ways that TOML allows, and notes where everything lands."""

    data: st.DataObject
    newline: str = "\n"
    text: str = ""
    lines: dict[Path, int] = field(default_factory=dict)
    strings: dict[Path, list[int]] = field(default_factory=dict)

    @property
    def row(self) -> int:
        return self.text.count("\n") + 1

    def flip(self) -> bool:
        return self.data.draw(st.booleans())

    def put(self, text: str) -> None:
        self.text += text

    def end(self) -> None:
        self.put(self.data.draw(st.sampled_from(["", " ", "\t# [c] = '", " # ]"])) + self.newline)
        while self.data.draw(st.integers(0, 3)) == 3:
            self.put(self.data.draw(st.sampled_from(["", "# a = 1", "  "])) + self.newline)

    def key(self, name: str) -> str:
        if name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name) and self.flip():
            return name
        if "'" not in name and self.flip():
            return f"'{name}'"
        return quoted(name)

    def keys(self, names: list[str]) -> str:
        dot = self.data.draw(st.sampled_from([".", " . "]))
        return dot.join(map(self.key, names))

    def table(self, entries: dict[str, Any], path: Path, header: list[str]) -> None:
        """The pairs of a table, then its tables: TOML gives what follows a header to that header's table."""
        nested = {name: value for name, value in entries.items() if isinstance(value, Table | Tables)}
        for name, value in entries.items():
            if name not in nested:
                self.pair([name], value, path)
        for name, value in list(nested.items()):
            if (
                isinstance(value, Table)
                and value.entries
                and not any(isinstance(v, Table | Tables) for v in value.entries.values())
                and self.flip()
            ):
                del nested[name]
                self.lines[(*path, name)] = self.row
                for inner, own in value.entries.items():
                    self.pair([name, inner], own, path)
        for name, value in nested.items():
            if isinstance(value, Tables):
                self.lines[(*path, name)] = self.row
                for index, element in enumerate(value.elements):
                    self.lines[(*path, name, index)] = self.row
                    self.put(f"[[{self.keys([*header, name])}]]")
                    self.end()
                    self.table(element, (*path, name, index), [*header, name])
            else:
                self.lines[(*path, name)] = self.row
                below = value.entries.values()
                if below and all(isinstance(v, Tables) for v in below) and self.flip():
                    self.table(value.entries, (*path, name), [*header, name])
                    continue
                self.put(f"[ {self.keys([*header, name])} ]")
                self.end()
                self.table(value.entries, (*path, name), [*header, name])

    def pair(self, names: list[str], value: Any, path: Path, *, within: bool = False) -> None:
        self.lines[(*path, *names)] = self.row
        self.put(f"{self.keys(names)} = ")
        self.value(value, (*path, *names), within=within)
        if not within:
            self.end()

    def value(self, value: Any, path: Path, *, within: bool) -> None:
        if isinstance(value, Array):
            self.put("[")
            for index, element in enumerate(value.elements):
                if self.flip():
                    self.end()
                self.lines[(*path, index)] = self.row
                self.value(element, (*path, index), within=within)
                self.put(",")
            self.put("]")
        elif isinstance(value, dict):
            self.put("{ ")
            for index, (name, own) in enumerate(value.items()):
                self.put(", " if index else "")
                self.pair([name], own, path, within=True)
            self.put(" }")
        elif isinstance(value, list):
            self.string(value, path)
        else:
            self.put(json.dumps(value))

    def string(self, lines: list[str], path: Path) -> None:
        """A string of these lines, divided by rows or by escapes."""
        self.strings[path] = [self.row] * len(lines)
        if self.flip():
            self.put(quoted("\n".join(lines)))
            return
        literal = "'" not in "".join(lines) and self.flip()
        quotes = "'''" if literal else '"""'
        self.put(quotes)
        if not lines[0] or self.flip():
            self.put(self.newline)
        for index, line in enumerate(lines):
            if index:
                self.put(self.newline if literal else self.data.draw(st.sampled_from([self.newline, "\\n", "\\u000A"])))
            self.strings[path][index] = self.row
            self.put(line if literal else quoted(line)[1:-1])
        self.put(quotes)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def plain(value: Any) -> Any:
    """The data as `tomllib` returns them."""
    if isinstance(value, Array | Tables):
        return [plain(element) for element in value.elements]
    if isinstance(value, list):
        return "\n".join(value)
    if isinstance(value, Table):
        return plain(value.entries)
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value


@settings(max_examples=300, deadline=None)
@given(TABLES, st.sampled_from(["\n", "\r\n"]), st.data())
def test_every_entry_is_found_at_the_line_where_it_was_written(
    entries: dict[str, Any], newline: str, data: st.DataObject
) -> None:
    writer = Writer(data, newline)
    writer.end()
    writer.table(entries, (), [])
    assert tomllib.loads(writer.text) == plain(entries)
    positions = Positions(writer.text)
    assert {path: positions.line(path) for path in writer.lines} == writer.lines
    found = {path: [positions.line_inside(path, i) for i in range(len(rows))] for path, rows in writer.strings.items()}
    assert found == writer.strings


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ('\n[models."det[ab]*.onnx"]\nexact = true', ("models", "det[ab]*.onnx"), 2),
        ('a = 1\n["x.y"."#"]\n"k]" = 2', ("x.y", "#", "k]"), 3),
        ("[[a]]\n[[a]]\n[a.b]\nc = 1", ("a", 1, "b", "c"), 4),
        ("[[a]]\n[[a.b]]\n[[a]]\n[[a.b]]\n[[a.b]]\nc = 1", ("a", 1, "b", 1, "c"), 6),
        ("[[a]]\n[a.b.c]\nd = 1", ("a", 0, "b"), 2),
        ("[a.b]\n[a]\nc = 1", ("a",), 2),
        ("a = [\n  [1,\n  2],\n  [3,\n\n  4]]", ("a", 1, 1), 6),
        ("a.b . c = 1\na.d = 2", ("a", "d"), 2),
        ("a = 1", ("b", "c"), 1),
        ("[a]\nb = [1]", ("a", "b", 3), 2),
        ("", ("a",), 1),
    ],
)
def test_lines_of_entries(text: str, place: Path, line: int) -> None:
    assert Positions(text).line(place) == line


def test_a_backslash_joins_rows_of_a_string() -> None:
    positions = Positions(
        r'''a = """
one \

    more
two\nthree
four"""'''
    )
    assert [positions.line_inside(("a",), i) for i in range(4)] == [2, 5, 5, 6]

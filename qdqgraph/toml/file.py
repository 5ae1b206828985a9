"""`TomlFile`: a TOML file that keeps to a JSON schema, and errors that name file, line and what to write."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import fastjsonschema

from ..errors import RuleError, reason
from .positions import Lines

T = TypeVar("T")
Place = Sequence[str | int]
"""Keys and array indexes that lead to an entry: ("example", 1, "before")."""


class TextError(RuleError):
    """What an entry of the file says is wrong; `line` counts in the entry's own text, from 0, where it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class TomlFile:
    """A TOML file, or one table of it, checked against a schema.

    Args:
        path: the file; schema: the JSON schema (draft 7) that the table at `root` must keep to.

    Raises:
        RuleError: with file, line, what is wrong and what to write.
    """

    def __init__(self, path: Path, schema: Path, root: Place = ()) -> None:
        self.path, self.root = path, tuple(root)
        try:
            text = path.read_text(encoding="utf-8")
            data: Any = tomllib.loads(text)
        except (OSError, UnicodeDecodeError) as error:
            raise RuleError(f"{path}: cannot be read: {reason(error)}") from error
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"line (\d+)", str(error))
            raise RuleError(f"{path}:{line.group(1) if line else 1}: this is no TOML: {error}") from error
        self.lines = Lines(text)
        for key in self.root:
            data = data.get(key, {})
        self.data: Mapping[str, Any] = data
        try:
            _validator(schema)(data)
        except fastjsonschema.JsonSchemaValueException as error:
            place = _steps(data, error.path[1:])
            at = [*place, *_unknown(error)[:1]]
            self.fail(at, _sentence(error, place), error)

    def line(self, place: Place) -> int:
        """The line where an entry stands."""
        return self.lines.of((*self.root, *place))

    def fail(self, place: Place, message: str, cause: Exception | None = None) -> NoReturn:
        """Refuses the file.

        Raises:
            RuleError: always.
        """
        raise RuleError(f"{self.path}:{self.line(place)}: {message}") from cause

    def read(self, place: Place, parse: Callable[..., T], *args: Any, **options: Any) -> T:
        """`parse(*args, **options)`, what the entry at `place` says.

        Raises:
            RuleError: it raised one; the message then says where in the file.
        """
        try:
            return parse(*args, **options)
        except TextError as error:
            known = error.line is not None
            line = self.lines.inside((*self.root, *place), error.line or 0) if known else self.line(place)
            raise RuleError(f"{self.path}:{line}: {error}") from error
        except RuleError as error:
            self.fail(place, str(error), error)


@cache
def _validator(schema: Path) -> Callable[[Mapping[str, Any]], object]:
    made: Callable[[Mapping[str, Any]], object] = fastjsonschema.compile(json.loads(schema.read_text(encoding="utf-8")))
    return made


def _steps(root: Any, path: Sequence[str]) -> list[str | int]:
    """A path of the validator, with numbers where the data have arrays."""
    steps: list[str | int] = []
    data, name = root, ""
    for part in path:
        if isinstance(data, list):
            steps.append(int(part))
            data = data[int(part)]
            continue
        name = f"{name}.{part}" if name else part  # the validator splits keys at their dots, too
        if name in data:
            steps.append(name)
            data, name = data[name], ""
    return steps


def _unknown(error: fastjsonschema.JsonSchemaValueException) -> list[str]:
    """Keys that a table must not have; a key that it lacks is often one of them, misspelt."""
    if error.rule not in ("additionalProperties", "required"):
        return []
    return [k for k in error.value if k not in error.definition.get("properties", ())]


def _sentence(error: fastjsonschema.JsonSchemaValueException, place: Place) -> str:
    """A schema's complaint as a sentence that says what to write."""
    names = [f"#{p + 1}" if isinstance(p, int) else p for p in place]
    where = " ".join(names) or "the table"
    for name in _unknown(error):
        known = sorted(error.definition["properties"])
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
        return f"unknown key {name!r}; {advice}"
    if error.rule == "required":
        missing = [k for k in error.definition["required"] if k not in error.value]
        return f"{where} lacks {', '.join(map(repr, missing))}"
    if error.rule == "enum":
        return f"{where} is {error.value!r}; write one of {', '.join(error.rule_definition)}"
    if error.rule == "pattern":
        good = error.definition.get("examples", [error.rule_definition])[0]
        return f"{where} is {error.value!r}; write, for example, {good!r}"
    if error.rule == "type":
        kinds = {"array": "an array of strings", "string": "text in quotes", "object": "a table", "number": "a number"}
        return f"{where} must be {kinds.get(str(error.rule_definition), error.rule_definition)}"
    return f"{where}: {error.message.replace('data.', '').replace('data', 'it')}"

"""A rule file as data: TOML of the schema `rule.schema.json`, with the lines at which its entries stand."""

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

from ..errors import RuleError
from .lines import Lines
from .pattern import PatternError

SCHEMA = Path(__file__).with_name("rule.schema.json")
"""For editors: put `#:schema <this path>` into the first line of a rule file."""

GOOD = {"code": "MY201: letters, a band from 1 to 4, two digits", "name": "repeated-pair: words joined by hyphens"}
T = TypeVar("T")
Place = Sequence[str | int]


class RuleFile:
    """A rule file that keeps to the schema.

    Raises:
        RuleError: with file, line, what is wrong and what to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
            self.data: Mapping[str, Any] = tomllib.loads(text)
        except (OSError, UnicodeDecodeError) as error:
            raise RuleError(f"{path}: cannot be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            line = re.search(r"line (\d+)", str(error))
            raise RuleError(f"{path}:{line.group(1) if line else 1}: this is no TOML: {error}") from error
        self.lines = Lines(text)
        try:
            _validator()(self.data)
        except fastjsonschema.JsonSchemaValueException as error:
            place = [int(p) if p.isdigit() else p for p in error.path[1:]]
            at = [*place, _unknown(error)[0]] if error.rule == "additionalProperties" else place
            self.fail(at, _sentence(error, place), error)

    def fail(self, place: Place, message: str, cause: Exception | None = None) -> NoReturn:
        """Refuses the file.

        Raises:
            RuleError: always.
        """
        raise RuleError(f"{self.path}:{self.lines.of(place)}: {message}") from cause

    def read(self, place: Place, parse: Callable[..., T], *args: Any, **options: Any) -> T:
        """`parse(*args, **options)` of the entry at `place`.

        Raises:
            RuleError: it raised a RuleError; the message then says where.
        """
        try:
            return parse(*args, **options)
        except PatternError as error:
            line = self.lines.inside(place, error.line) if error.line else self.lines.of(place)
            raise RuleError(f"{self.path}:{line}: {error}") from error
        except RuleError as error:
            self.fail(place, str(error), error)

    @property
    def ties(self) -> list[tuple[Place, Mapping[str, Any]]]:
        """The ties, [tie] or [[tie]], with their places."""
        tie = self.data.get("tie", [])
        return [(("tie",), tie)] if isinstance(tie, dict) else [(("tie", i), t) for i, t in enumerate(tie)]


@cache
def _validator() -> Callable[[Mapping[str, Any]], object]:
    made: Callable[[Mapping[str, Any]], object] = fastjsonschema.compile(json.loads(SCHEMA.read_text(encoding="utf-8")))
    return made


def _unknown(error: fastjsonschema.JsonSchemaValueException) -> list[str]:
    return [k for k in error.value if k not in error.definition.get("properties", ())]


def _sentence(error: fastjsonschema.JsonSchemaValueException, place: Place) -> str:
    """A schema's complaint as a sentence that says what to write."""
    where = ".".join(str(p) for p in place) or "the rule"
    if error.rule == "additionalProperties":
        name = _unknown(error)[0]
        known = sorted(error.definition["properties"])
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
        return f"unknown key {name!r} in {where}; {advice}"
    if error.rule == "required":
        missing = [k for k in error.definition["required"] if k not in error.value]
        return f"{where} lacks {', '.join(map(repr, missing))}"
    if error.rule == "enum":
        return f"{where} is {error.value!r}; write one of {', '.join(error.rule_definition)}"
    if error.rule == "pattern":
        return f"{where} is {error.value!r}; write, for example, {GOOD.get(str(place[-1]), error.rule_definition)}"
    said = error.message.replace("data.", "").replace("data", "the rule")
    description = error.definition.get("description", "")
    return f"{said}: {description}" if description else said

"""What is wrong with a table that does not fit its form: the exact place, and a sentence that says what to write.

msgspec tells that a table is wrong, but not under which key of a mapping; jsonschema does, from the schema of the form.
It is imported only here, where a file is refused: importing it takes longer than reading a file that is right.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any

import jsonschema
import msgspec
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from .place import spelled
from .schema import schema

KINDS = {
    "string": "text in quotes",
    "object": "a table",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}


def _is_integer(_: object, value: object) -> bool:
    """As msgspec has it: JSON schema takes 8.0 for an integer, too."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: object, value: object) -> bool:
    """As msgspec has it: NaN is within no bound."""
    return _is_integer(_, value) or (isinstance(value, float) and not math.isnan(value))


Validator = extend(
    jsonschema.Draft7Validator,
    type_checker=jsonschema.Draft7Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number}),
)


def fault(table: object, form: type[msgspec.Struct], name: str) -> tuple[list[str | int], str] | None:
    """The place of the worst fault and a sentence about it; None where the schema finds none.

    Args:
        name: what to call the table itself.
    """
    error = best_match(Validator(schema(form)).iter_errors(table))
    if error is None:
        return None
    place = [*error.absolute_path]
    unknown = _unknown(error)
    if unknown:
        return [*place, unknown[0]], _advice(unknown[0], error.schema["properties"])
    return place, _sentence(error, spelled(place) or name)


def _unknown(error: Any) -> list[str]:
    """Keys that a table must not have; a key that it lacks is often one of them, misspelt."""
    if error.validator not in ("additionalProperties", "required"):
        return []
    return [key for key in error.instance if key not in error.schema["properties"]]


def _advice(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(sorted(known))}"
    return f"unknown key {name!r}; {advice}"


def _sentence(error: Any, where: str) -> str:
    """The fault as a sentence that says what to write."""
    match error.validator:
        case "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            return f"{where} lacks {', '.join(map(repr, missing))}"
        case "enum":
            return f"{where} is {error.instance!r}; write one of {', '.join(map(str, error.validator_value))}"
        case "pattern":
            return f"{where} is {error.instance!r}; write, for example, {error.schema['examples'][0]!r}"
        case "type":
            return f"{where} must be {_kind(error.schema)}"
        case "anyOf":
            return f"{where} must be {' or '.join(map(_kind, error.validator_value))}"
    return f"{where}: {error.message}"


def _kind(wanted: Any) -> str:
    if "$ref" in wanted:
        return KINDS["object"]
    if wanted["type"] == "array":
        return "an array of strings" if wanted["items"].get("type") == "string" else "an array of tables"
    return KINDS[wanted["type"]]

"""Error messages for tables that do not match their schema: the exact entry, and what to write.

msgspec reports that a table is wrong, but not under which key of a mapping; jsonschema does, from the schema of the
form. It is imported only here, for a file that is refused: importing it takes longer than reading a valid file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jsonschema
import msgspec
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from ..errors import guess
from .place import spelled
from .schema import schema

KINDS = {
    "string": "a string",
    "object": "a table",
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
}


def _is_integer(_: object, value: object) -> bool:
    """Whether msgspec accepts the value as an integer; JSON schema also accepts 8.0."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_: object, value: object) -> bool:
    """Whether msgspec accepts the value as a number; NaN is within no bound."""
    return _is_integer(_, value) or (isinstance(value, float) and not math.isnan(value))


Validator = extend(
    jsonschema.Draft7Validator,
    type_checker=jsonschema.Draft7Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number}),
)


def fault(table: object, form: type[msgspec.Struct], name: str) -> tuple[list[str | int], str] | None:
    """The path of the worst error and a message about it; None if the table matches the schema.

    Args:
        name: the name of the table itself in messages.
    """
    error = best_match(Validator(schema(form)).iter_errors(table))
    if error is None:
        return None
    while error.validator in ("anyOf", "oneOf") and (inner := _meant(error)) is not None:
        error = inner
    place = [*error.absolute_path]
    unknown = _unknown(error)
    if unknown:
        return [*place, unknown[0]], _advice(unknown[0], error.schema["properties"])
    return place, _sentence(error, spelled(place) or name)


def _meant(error: Any) -> Any:
    """The error within the one of several alternatives whose type the value has; None if it has none of the types."""
    inside: dict[int, list[Any]] = {}
    for each in error.context:
        inside.setdefault(each.relative_schema_path[0], []).append(each)
    typed = [
        found for found in inside.values() if not any(e.validator == "type" and not e.relative_path for e in found)
    ]
    return best_match(typed[0]) if typed else None


def _unknown(error: Any) -> list[str]:
    """The unknown keys of a table; a missing key is often one of them, misspelled."""
    if error.validator not in ("additionalProperties", "required"):
        return []
    return [key for key in error.instance if key not in error.schema["properties"]]


def _advice(name: str, known: Sequence[str]) -> str:
    keys = sorted(known)
    return f"unknown key {name!r}{guess(name, keys) or '; the keys are ' + ', '.join(keys)}"


def _sentence(error: Any, where: str) -> str:
    """The message for an error, with what to write."""
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

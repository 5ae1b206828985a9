"""JSON files from outside, read with bounded memory and a clear sentence where they are bad."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import EngineError, reason

MAX_BYTES = 64 * 2**20
"""Layer info of a network with 5,000 layers is some 10 MiB."""
MAX_VALUES = 2_000_000
"""Values in a file: each costs up to 100 bytes of memory once it is read, however short its text."""

MAX_LAYERS = 100_000
"""Layers of an engine; a thousand are many."""


def load(path: Path, what: str) -> object:
    """The content of a JSON file. `what` it should hold goes into the messages.

    Raises:
        EngineError: the file cannot be read, is too large or too deeply nested, or is no JSON.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {reason(error)}") from error
    if len(raw) > MAX_BYTES:
        raise EngineError(f"{path}: is larger than {MAX_BYTES >> 20} MiB, which is no {what}")
    if sum(raw.count(sign) for sign in (b",", b"[", b"{")) > MAX_VALUES:
        raise EngineError(f"{path}: holds more than {MAX_VALUES:,} values, which is no {what}")
    try:
        # Not strict: the inspector writes the separator of Metadata, \x1e, as it is.
        return json.loads(raw.decode("utf-8-sig", "replace"), strict=False)
    except json.JSONDecodeError as error:
        end = error.pos >= len(error.doc.rstrip())
        hint = "it ends too early: was the export cut off?" if end or "Unterminated" in error.msg else "it is no JSON"
        raise EngineError(f"{path}: line {error.lineno}, column {error.colno}: {hint} ({error.msg})") from error
    except (RecursionError, ValueError) as error:
        fault = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise EngineError(f"{path}: this is no {what}: {fault}") from error


def entries(value: object, place: str) -> list[dict[str, object]]:
    """A list of objects.

    Raises:
        EngineError: it is something else; the message begins with `place`.
    """
    if not isinstance(value, list):
        raise EngineError(f"{place} should be a list, and is {kind(value)}")
    for index, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise EngineError(f"{place}[{index}] should be an object, and is {kind(entry)}")
    return value


def layers(value: object, place: str) -> list[dict[str, object]]:
    """The layers of an engine, a list of objects.

    Raises:
        EngineError: it is something else, or there are more than any engine has.
    """
    found = entries(value, place)
    if len(found) > MAX_LAYERS:
        raise EngineError(f"{place} holds {len(found):,} layers; no engine has more than {MAX_LAYERS:,}")
    return found


def text(entry: dict[str, object], key: str, place: str, default: str | None = None) -> str:
    """A string of an object.

    Raises:
        EngineError: it is absent and there is no default, or no string.
    """
    value = entry.get(key, default)
    if not isinstance(value, str):
        raise EngineError(f"{place}: {key!r} should be a string, and is {kind(value)}")
    return value


def number(entry: dict[str, object], key: str, place: str) -> float:
    """A number of an object that is not negative.

    Raises:
        EngineError: it is absent or no such number.
    """
    value = entry.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e300:
        raise EngineError(f"{place}: {key!r} should be a number of at least 0, and is {kind(value)}")
    return float(value)


def kind(value: object) -> str:
    """What a value is, for a message; never the value itself, which may be huge."""
    if value is None:
        return "absent"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"the number {value:.6g}" if abs(value) < 1e300 else "a number out of range"
    return {"str": "a string", "list": "a list", "dict": "an object", "bool": "true or false"}[type(value).__name__]

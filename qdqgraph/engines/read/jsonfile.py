"""Reads JSON files of other programs with bounded memory; a bad file is refused with a clear error message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from ...errors import EngineError, field_fault, reason

T = TypeVar("T")
Duration = Annotated[float, Meta(ge=0, lt=1e300)]
"""A time in milliseconds."""

MAX_BYTES = 64 * 2**20
"""Limit of a file's size; layer info of a network with 5,000 layers is about 10 MiB."""
MAX_VALUES = 2_000_000
"""Limit of the values in a file: each takes up to 100 bytes of memory after reading, however short its text."""

MAX_LAYERS = 100_000
"""Limit of the layers of an engine; large engines have about a thousand."""


def load(path: Path, what: str) -> object:
    """The content of a JSON file.

    Args:
        path: the file.
        what: the expected content, for messages, with its article.

    Raises:
        EngineError: the file cannot be read, is too large or too deeply nested, or is not JSON.
    """
    return parsed(read_text(path, what), path, what)


def read_text(path: Path, what: str) -> str:
    """The text of a file.

    Args:
        path: the file.
        what: the expected content, for messages, with its article.

    Raises:
        EngineError: the file cannot be read or is too large.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {reason(error)}") from error
    if len(raw) > MAX_BYTES:
        raise EngineError(f"{path}: is larger than {MAX_BYTES >> 20} MiB, so it is not {what}")
    return raw.decode("utf-8-sig", "replace")


def parsed(text: str, path: Path, what: str) -> object:
    """The value of a JSON text from a file; arguments as in `load`.

    Raises:
        EngineError: the text has too many values, is too deeply nested, or is not JSON.
    """
    if sum(text.count(sign) for sign in ",[{") > MAX_VALUES:
        raise EngineError(f"{path}: contains more than {MAX_VALUES:,} values, so it is not {what}")
    try:
        # Not strict: the inspector does not escape the separator of Metadata, \x1e.
        return json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        end = error.pos >= len(error.doc.rstrip())
        cut = end or "Unterminated" in error.msg
        hint = "the file ends too early: was the export interrupted?" if cut else "this is not JSON"
        raise EngineError(f"{path}: line {error.lineno}, column {error.colno}: {hint} ({error.msg})") from error
    except (RecursionError, ValueError) as error:
        fault = "nested too deeply" if isinstance(error, RecursionError) else "an integer has thousands of digits"
        raise EngineError(f"{path}: this is not {what}: {fault}") from error


def as_form(value: object, form: type[T], place: str) -> T:
    """A value of such a file as a typed form.

    Raises:
        EngineError: it does not match; the message begins with `place` and names the field.
    """
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        raise EngineError(f"{place}: {field_fault(error)[:200]}") from error

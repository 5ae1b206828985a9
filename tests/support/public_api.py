"""Writes what the public modules offer, one line each: `python -m tests.support.public_api > tests/api/public_api.txt`."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any

MODULES = ("qdqgraph", "qdqgraph.rulekit", "qdqgraph.torch")
"""The public modules, which docs/versioning.md names. The last one needs torch."""


def lines(module: str) -> Iterator[str]:
    """The names of a module in `__all__`: functions with their signature, classes with their public members."""
    found = importlib.import_module(module)
    yield f"{module}"
    for name in sorted(found.__all__):
        yield from _described(name, getattr(found, name))


def _described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"    class {name}({bases})"
        if issubclass(value, BaseException):
            return
        if not issubclass(value, Enum):
            yield f"        {_signature('__init__', value)}"
        members = {key for key in dir(value) if not key.startswith("_") and _is_own(value, key)}
        for key in sorted({*members, *inspect.get_annotations(value)} - {"_"}):
            if not key.startswith("_"):
                yield f"        {_member(value, key)}"
    elif callable(value):
        yield f"    {_signature(name, value)}"
    else:
        yield f"    {name}: {type(value).__name__}"


def _is_own(kind: type, name: str) -> bool:
    """Whether a class of this package defines a member: those of object, enum and msgspec are theirs."""
    return any(name in vars(base) and base.__module__.startswith("qdqgraph") for base in kind.__mro__)


def _member(kind: type, name: str) -> str:
    value = inspect.getattr_static(kind, name, None)
    value = getattr(value, "__func__", value)
    if inspect.isfunction(value):
        return _signature(name, value)
    return name


def _signature(name: str, value: Any) -> str:
    try:
        text = str(inspect.signature(value))
    except ValueError:
        return name
    return name + re.sub(r"<[^<>]*(?:<lambda>)?[^<>]*>", "...", text).replace("'", "")


def text(modules: tuple[str, ...] = MODULES) -> str:
    """What the modules offer, with an empty line between two modules."""
    return "\n".join("\n".join(lines(module)) + "\n" for module in modules)


if __name__ == "__main__":
    sys.stdout.write(text())

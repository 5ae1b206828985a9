"""Operators that a text rule selects by a category of the table of operators: "@moves"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...categories import CATEGORIES
from ...errors import guess
from ...operators import members
from ...toml.file import TextError, TomlFile
from .form import RuleForm

MARK = "@"
"""The first character of a category's name."""

Ops = Mapping[str, Sequence[str]]
"""Names that a rule defines for several operators → the operators."""


def expand(name: str) -> tuple[str, ...]:
    """The operators of "@category", sorted; any other name unchanged.

    Raises:
        TextError: there is no such category; the message lists them.
    """
    if not name.startswith(MARK):
        return (name,)
    category = name.removeprefix(MARK)
    if category not in CATEGORIES:
        near = guess(category, CATEGORIES)
        raise TextError(f"there is no category {name!r}{near or '.'} The categories: @{', @'.join(CATEGORIES)}")
    return tuple(sorted(members(category)))


def read(source: TomlFile[RuleForm], ops: Mapping[str, str | Sequence[str]]) -> Ops:
    """The entries of `ops`, each a category or an array of operators and categories.

    Raises:
        RuleError: there is no such category; with file and line.
    """
    found: dict[str, Sequence[str]] = {}
    for name, given in ops.items():
        if isinstance(given, str):
            found[name] = source.read(("ops", name), expand, given)
        else:
            each = [source.read(("ops", name, i), expand, op) for i, op in enumerate(given)]
            found[name] = tuple(dict.fromkeys(op for group in each for op in group))
    return found

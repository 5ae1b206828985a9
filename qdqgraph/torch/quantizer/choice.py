"""Selects modules by glob, regular expression, list or function; a pattern that matches nothing is an error."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from torch import nn

from ...errors import TorchError, guess

Choice: TypeAlias = "str | re.Pattern[str] | Callable[[str, nn.Module], bool] | Sequence[str | re.Pattern[str]]"
"""A glob on module paths, "re:" and a regular expression, a compiled one, a list of these, or a function of path and
module. A selected module includes everything inside it."""
REGEX = "re:"


def select_modules(modules: Mapping[str, nn.Module], choice: Choice, what: str) -> frozenset[str]:
    """The paths of the modules that a choice selects.

    Args:
        modules: the modules to select from, by path.
        choice: empty selects none.
        what: the option that the choice belongs to, for messages.

    Raises:
        TorchError: a pattern matches no module, with the nearest path; or it is not a regular expression.
    """
    if callable(choice):
        return frozenset(path for path, module in modules.items() if choice(path, module))
    found: set[str] = set()
    patterns = [choice] if isinstance(choice, str | re.Pattern) else choice
    for pattern in patterns if choice else ():
        matching = [path for path in modules if matches(path, pattern)]
        if not matching:
            text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
            raise TorchError(f"{what}: no module matches {text!r}{guess(text, modules, cutoff=0.4)}")
        found.update(matching)
    return frozenset(found)


def matches(path: str, pattern: str | re.Pattern[str], *, ancestors: bool = True) -> bool:
    """Whether a pattern matches the module at a path, or, with `ancestors`, one of its ancestors.

    Raises:
        TorchError: it is not a regular expression.
    """
    if isinstance(pattern, str) and pattern.startswith(REGEX):
        try:
            pattern = re.compile(pattern.removeprefix(REGEX))
        except re.error as error:
            raise TorchError(f"{pattern!r} is not a regular expression: {error}") from error
    paths = with_ancestors(path) if ancestors else (path,)
    if isinstance(pattern, re.Pattern):
        return any(pattern.fullmatch(p) for p in paths)
    return any(fnmatch.fnmatchcase(p, pattern) for p in paths)


def with_ancestors(path: str) -> Iterable[str]:
    """The path, and those of the module's ancestors: "a.b.c", "a", "a.b"."""
    yield path
    yield from (path[: m.start()] for m in re.finditer(r"\.", path))

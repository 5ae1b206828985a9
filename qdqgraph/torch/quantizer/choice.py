"""Which modules are meant: by glob, regular expression, list or function, with an error where a name fits nothing."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from torch import nn

from ...errors import TorchError

Choice: TypeAlias = "str | re.Pattern[str] | Callable[[str, nn.Module], bool] | Sequence[str | re.Pattern[str]]"
"""A glob on module paths, "re:" and a regular expression, a compiled one, a list of these, or a function of path and
module. A module that is meant takes everything inside it along."""
REGEX = "re:"


def chosen(modules: Mapping[str, nn.Module], choice: Choice, what: str) -> frozenset[str]:
    """The paths that a choice means.

    Args:
        modules: the modules that can be meant, by path.
        choice: empty means none.
        what: what the choice is for, in messages.

    Raises:
        TorchError: a pattern fits none of them, or is no regular expression; the nearest path is named.
    """
    if callable(choice):
        return frozenset(path for path, module in modules.items() if choice(path, module))
    found: set[str] = set()
    patterns = [choice] if isinstance(choice, str | re.Pattern) else choice
    for pattern in patterns if choice else ():
        fits = [path for path in modules if matches(path, pattern)]
        if not fits:
            text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
            near = difflib.get_close_matches(text, modules, n=1, cutoff=0.4)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise TorchError(f"{what}: no module fits {text!r}{guess}")
        found.update(fits)
    return frozenset(found)


def matches(path: str, pattern: str | re.Pattern[str]) -> bool:
    """Whether a pattern means the module at a path, or one that holds it.

    Raises:
        TorchError: it is no regular expression.
    """
    if isinstance(pattern, str) and pattern.startswith(REGEX):
        try:
            pattern = re.compile(pattern.removeprefix(REGEX))
        except re.error as error:
            raise TorchError(f"{pattern!r} is no regular expression: {error}") from error
    if isinstance(pattern, re.Pattern):
        return any(pattern.fullmatch(p) for p in holders(path))
    return any(fnmatch.fnmatchcase(p, pattern) for p in holders(path))


def holders(path: str) -> Iterable[str]:
    """The path, and those of the modules that hold it: "a.b.c", "a", "a.b"."""
    yield path
    yield from (path[: m.start()] for m in re.finditer(r"\.", path))

"""Captures in the names of a tie: `stage{N}` makes one tie per value of N that the graph contains.

A capture matches letters of a name without "." and "/". One name may contain it several times, and several names of a
tie contain the same: each value gives a tie of its own, over the names with this value.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping

from msgspec import structs

from ...graph.graph import Graph
from ...graph.selectors import KINDS, known_names
from ...toml.file import TextError
from .form import TieTable

CAPTURE = re.compile(r"\{([A-Za-z_]\w*)\}")
TOKEN = re.compile(r"\{([A-Za-z_]\w*)\}|\[!?\]?[^\]]*\]|.", re.DOTALL)
"""A capture, a set of characters, or one character of a glob."""


def captures(texts: Iterable[str]) -> frozenset[str]:
    """The names of the captures in these texts."""
    return frozenset(name for text in texts for name in CAPTURE.findall(text))


def check(tie: TieTable) -> None:
    """Checks the captures of a tie.

    Raises:
        TextError: no name contains all of them, so their values are not known together; or a set of characters is
            no range.
    """
    for _, _, name in tie.named() if captures(name for _, _, name in tie.named()) else ():
        try:
            _expression(name)
        except re.error as error:
            raise TextError(f"{name!r} is not a glob: {error}") from error
    wanted = captures((*(name for _, _, name in tie.named()), tie.policy))
    if wanted and not any(captures([name]) == wanted for _, _, name in tie.named()):
        every = ", ".join(f"{{{name}}}" for name in sorted(wanted))
        raise TextError(f"no name of this tie contains all of {every}: write one that does, or several ties")


def instances(graph: Graph, tie: TieTable) -> tuple[TieTable, ...]:
    """The ties that a tie with captures means in a graph, in the order of their names there; itself without captures.

    Empty if no name of the graph matches.
    """
    wanted = captures(name for _, _, name in tie.named())
    if not wanted:
        return (tie,)
    found: dict[tuple[tuple[str, str], ...], None] = {}
    for kind, _, name in tie.named():
        if captures([name]) == wanted:
            form = _expression(name)
            matched = (form.fullmatch(known) for known in known_names(graph, kind))
            found |= {tuple(sorted(m.groupdict().items())): None for m in matched if m is not None}
    return tuple(_bound(tie, dict(values)) for values in found)


def _bound(tie: TieTable, values: Mapping[str, str]) -> TieTable:
    """A tie with values in place of its captures."""
    named = {
        kind: tuple(CAPTURE.sub(lambda m: glob.escape(values[m[1]]), name) for name in getattr(tie, kind))
        for kind in KINDS
    }
    return structs.replace(tie, policy=CAPTURE.sub(lambda m: values[m[1]], tie.policy), **named)


def _expression(name: str) -> re.Pattern[str]:
    """A glob with captures as a regular expression."""
    parts, seen = [], set[str]()
    for token in TOKEN.finditer(name):
        text, capture = token[0], token[1]
        if capture:
            parts.append(f"(?P={capture})" if capture in seen else f"(?P<{capture}>[^./]+)")
            seen.add(capture)
        elif text in "*?":
            parts.append(".*" if text == "*" else ".")
        elif len(text) > 1:
            inner = text[1:-1].replace("\\", r"\\").replace("[", r"\[")
            parts.append(f"[{'^' + inner[1:] if inner.startswith('!') else inner}]")
        else:
            parts.append(re.escape(text))
    return re.compile("".join(parts), re.DOTALL)

"""Markdown of GitHub and GitLab: tables, and names of a model that stay text.

A name may contain anything: it cannot write markup, a link, a mention or an end of its cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ..printable import printable
from ..rulekit.finding import Finding

ACTIVE = re.compile(r"[\\`*_\[\]<&|~$]")
"""Characters that mean something in Markdown or in HTML."""
QUOTED = re.compile(r"'([^']*)'")
"""A name in a message."""
MOST = 100
"""The longest list of findings: a comment on GitHub takes 65,536 characters."""


def code(name: str) -> str:
    """Returns a name as code, which no forge searches for mentions and links."""
    safe = printable(name)
    if safe and not re.search(r"[`|<>&\\]", safe) and safe == safe.strip():
        return f"`{safe}`"
    return f"<code>{_escaped(safe)}</code>"


def prose(text: str) -> str:
    """Returns a message, with the names that it quotes as code."""
    parts = QUOTED.split(text)
    return "".join(code(part) if place % 2 else _plain(part) for place, part in enumerate(parts))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yields the lines of a table of Markdown; a head that ends in "!" is that of a right-aligned column."""
    yield f"| {' | '.join(head.removesuffix('!') for head in heads)} |"
    yield f"| {' | '.join('---:' if head.endswith('!') else '---' for head in heads)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Yields a part that is opened with a click."""
    yield from (f"<details><summary>{title}</summary>", "", *lines, "", "</details>")


def listed(findings: Sequence[Finding], what: str) -> Iterator[str]:
    """Yields a table of the first `MOST` findings that is opened with a click; `what` is what all of them are."""
    shown = findings[:MOST]
    rows = ((f.code, code(f.place), prose(f.message), prose(f.advice)) for f in shown)
    title = f"All {what}" if len(shown) == len(findings) else f"The first {MOST} of {what}"
    yield from folded(title, table(("code", "tensor", "what is wrong", "what to do"), rows))


def places(findings: Sequence[Finding], most: int) -> str:
    """Returns the places of the first findings, and how many more there are."""
    more = f" and {len(findings) - most:,} more" if len(findings) > most else ""
    return ", ".join(code(finding.place) for finding in findings[:most]) + more


def _plain(text: str) -> str:
    return _escaped(printable(text)).replace("@", "@&#8203;")


def _escaped(text: str) -> str:
    return ACTIVE.sub(lambda found: f"&#{ord(found[0])};", text)

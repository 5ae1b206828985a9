"""Text and small HTML tables of results, for programs and notebooks."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from html import escape

from rich.console import Console

from ..printable import printable

WIDTH = 100
"""Columns of a text."""


def plain(show: Callable[[Console], None]) -> str:
    """What a function prints on a console, as text without colors and without a newline at the end."""
    console = Console(file=io.StringIO(), width=WIDTH, force_terminal=False, color_system=None)
    show(console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip("\n")


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], more: Iterable[str] = ()) -> str:
    """A table as HTML, every text escaped.

    Args:
        caption: what the table is.
        head: the names of its columns; empty for none.
        rows: its cells, as many in each row; numbers are aligned to the right.
        more: sentences after the table.
    """
    first = f"<thead><tr>{''.join(f'<th>{_text(name)}</th>' for name in head)}</tr></thead>" if head else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    after = "".join(f"<p>{_text(sentence)}</p>" for sentence in more if sentence)
    return f"<table><caption>{_text(caption)}</caption>{first}<tbody>{body}</tbody></table>{after}"


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f'<td style="text-align: right">{value:,}</td>'
    return f'<td style="text-align: left">{_text(str(value))}</td>'


def _text(text: str) -> str:
    return escape(printable(text))

"""Width, tables and wrapped lines of a screen."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...rulekit.finding import Severity
from ..lines import cell, say
from ..summary.names import CUT

NARROW = 80
"""Columns if stdout is not a terminal and COLUMNS does not say more."""
LEAST = 40
"""No screen is narrower: a wrapped table is worse than a line that the terminal wraps."""
Justify = Literal["left", "right"]


def columns(console: Console) -> int:
    """How many columns a screen has: those of the terminal; in a pipe those of COLUMNS, or 80."""
    if console.is_terminal:
        return max(console.width, LEAST)
    given = os.environ.get("COLUMNS", "")
    return max(int(given), LEAST) if given.isascii() and given.isdecimal() and len(given) < 5 else NARROW


def table(*heads: tuple[str, Justify]) -> Table:
    """Returns an empty table without lines; its last column wraps, the others do not."""
    made = Table(box=None, show_header=any(head for head, _ in heads))
    for place, (head, justify) in enumerate(heads):
        made.add_column(head, justify=justify, overflow="fold", no_wrap=place < len(heads) - 1, header_style="dim")
    return made


def row(of: Table, *cells: str | Text) -> None:
    """Adds a row; control characters of its cells are escaped."""
    of.add_row(*(each if isinstance(each, Text) else cell(each) for each in cells))


def say_wrapped(console: Console, text: str, indent: str = "", style: str = "") -> None:
    """Prints a text in lines of the width of the screen; the later ones are indented by two more spaces.

    Names are not broken: a longer one gets a line of its own.
    """
    width = columns(console)
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        say(console, Text(line, style))


def say_verdict(console: Console, text: str, style: str, *, alone: bool = False) -> None:
    """Prints the first line of a screen; it stays one line in a pipe, and if it is `alone`."""
    if alone or not console.is_terminal:
        say(console, Text(text, style))
    else:
        say_wrapped(console, text, style=style)


def colour(severity: Severity) -> str:
    """The style of a code: red if TensorRT refuses the file for it."""
    return "bold red" if severity is Severity.ERROR else "bold yellow"


def longest(texts: Iterable[str]) -> int:
    """The length of the longest text; 0 if there is none."""
    return max(map(len, texts), default=0)


def clipped(text: str, width: int) -> str:
    """The first characters of a text, with a mark if something is cut off."""
    return text if len(text) <= width else f"{text[: max(width - len(CUT), 0)]}{CUT}"

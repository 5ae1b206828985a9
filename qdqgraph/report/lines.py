"""Lines and tables for a terminal or a pipe, and a finding as one line."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..printable import printable, printable_json, printable_lines, printable_message
from ..rulekit.finding import Finding, Severity
from .fitting import show_fitting


def say(console: Console, line: Text | str) -> None:
    """Prints one line without wrapping it, its control characters escaped; with rich's styles on a terminal only.

    A line may continue on lines that are indented by two spaces or more.
    """
    if isinstance(line, str):
        _put(console, printable_message(line))
    elif console.is_terminal:
        parts = line.render(console)
        styled = ((printable(part.text), part.style or "") for part in parts if part.text)
        safe = Text.assemble(*styled, style=line.style)
        _put(console, safe if printable_message(safe.plain) == safe.plain else printable_message(safe.plain))
    else:
        _put(console, printable_message(line.plain))


def say_command(console: Console, line: str) -> None:
    """Prints a workflow command of GitHub Actions: a line that begins with `::`."""
    _put(console, printable(line))


def say_json(console: Console, text: str) -> None:
    """Prints JSON; it stays the same for its readers."""
    _put(console, printable_json(text))


def say_lines(console: Console, text: str) -> None:
    """Prints a text of several lines."""
    _put(console, printable_lines(text))


def cell(text: str) -> Text:
    """Returns a cell of a table."""
    return Text(printable(text))


def _put(console: Console, line: Text | str) -> None:
    if console.is_terminal:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        console.file.write(f"{line}\n")


def tabulate(console: Console, table: Table, width: int | None = None) -> None:
    """Prints a table in the width of the terminal, without cutting a number; in a pipe without trailing spaces, of this
    width, that of the console by default."""
    if console.is_terminal:
        show_fitting(console, table)
        return
    with console.capture() as shown:
        console.print(table, width=width)
    for line in shown.get().splitlines():
        say(console, line.rstrip())


def finding_line(path: str, finding: Finding) -> Text:
    """A remaining finding: file, place, code, what is wrong, what it costs, what to do and what that loses."""
    colour = "bold red" if finding.severity is Severity.ERROR else "bold yellow"
    advice = f"refused: {finding.refused}" if finding.refused else finding.advice
    return colored_line(path, finding, colour, advice, finding.price)


def colored_line(path: str, finding: Finding, colour: str, advice: str, price: str = "") -> Text:
    """A finding in one line, its code in a color: file, tensor, code, message, price, advice."""
    line = Text(f"{path}: {finding.place}: ")
    line.append(finding.code, colour).append("; ".join(filter(None, (f" {finding.message}", price))))
    return line.append(f"; {advice}", "dim") if advice else line

"""Lines and tables for a terminal or a pipe, and a finding as one line."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..engines.share import Int8Share
from ..rulekit.finding import Finding, Severity


def say(console: Console, line: Text | str) -> None:
    """Prints one line without wrapping it; with rich's styles on a terminal only."""
    if console.is_terminal:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        console.file.write(f"{line.plain if isinstance(line, Text) else line}\n")


def tabulate(console: Console, table: Table) -> None:
    """Prints a table; in a pipe without trailing spaces."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as shown:
        console.print(table)
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


def share_line(path: str, sentence: str, share: Int8Share) -> Text:
    """What runs in INT8 in a file, as one line; bold if there is a warning about it."""
    return Text(f"{path}: {sentence}", "bold yellow" if share.warning else "")

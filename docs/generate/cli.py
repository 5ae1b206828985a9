"""docs/cli.md: every command with its arguments, from the parser of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from qdqgraph.cli.main import parser

HEAD = """# CLI reference

<!-- Generated from the parser by `python -m docs.generate`: edit qdqgraph/cli, not this page. -->

Every command and option. What the commands are for, with the exit codes: [commands.md](commands.md).
`qdqgraph COMMAND --help` prints the same.
"""


def commands(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands that do something, in the order of the command line."""
    below = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield top
    for action in below:
        for child in dict.fromkeys(action.choices.values()):
            yield from commands(child)


def cell(text: str) -> str:
    """Text for one cell of a table; angle brackets and stars are not markup there."""
    for mark in ("\\", "|", "<", "*", "_", "[", "`"):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())


def arguments(action: argparse.Action) -> str:
    """How an argument is written: `-o OUT, --output OUT`, or `MODEL…`."""
    metavar = action.metavar
    name = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    if name is None:
        name = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    if not action.option_strings:
        return f"`{name}`" + {"*": " …, or none", "+": " …", "?": ", or none"}.get(str(action.nargs), "")
    value = "" if action.nargs == 0 else f" {name}" + (" …" if action.nargs in ("+", "*") else "")
    return ", ".join(f"`{option}{value}`" for option in action.option_strings).replace("|", "\\|")


def section(command: argparse.ArgumentParser) -> Iterator[str]:
    """The lines of one command."""
    yield f"## {command.prog}\n"
    yield f"{command.description}\n"
    if command.epilog and command.epilog.startswith("example: "):
        yield f"```sh\n{command.epilog.removeprefix('example: ')}\n```\n"
    formatter = command._get_formatter()
    for group in command._action_groups:
        shown = [a for a in group._group_actions if a.help != argparse.SUPPRESS and a.dest != "help"]
        if not shown:
            continue
        title = (group.title or "").capitalize()
        yield f"| {title} | |\n| --- | --- |"
        for action in shown:
            help = cell(formatter._expand_help(action)) if action.help else ""
            required = " (required)" if action.required and action.option_strings else ""
            yield f"| {arguments(action)}{required} | {help} |"
        yield ""


def page() -> str:
    """The text of docs/cli.md."""
    lines = [HEAD]
    for command in commands(parser()):
        lines += section(command)
    return "\n".join(lines).rstrip("\n") + "\n"

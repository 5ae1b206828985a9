"""`Parser`: an argument parser that gets its arguments when they are needed, and help in the width of the terminal."""

from __future__ import annotations

import argparse
import sys
from argparse import SUPPRESS, Action, HelpFormatter
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ..printable import printable_lines
from .slips import unknown_choice, unknown_option

WIDE_HELP, NARROW_HELP = 34, 26
"""Columns before the help of an option, with 100 columns or more and with fewer."""
Commands = Any
"""What `add_subparsers` returns, `argparse._SubParsersAction[Parser]`: its class has no public name."""


class Help(HelpFormatter):
    """Help in the width of the terminal: an option is written once, its default is shown, examples are not wrapped."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._max_help_position = WIDE_HELP if self._width >= 98 else NARROW_HELP

    def add_argument(self, action: Action) -> None:
        """As `argparse`, with room for the names of commands, which are indented further."""
        super().add_argument(action)
        below = [self._format_action_invocation(command) for command in self._iter_indented_subactions(action)]
        if below and action.help is not SUPPRESS:
            longest = max(map(len, below)) + self._current_indent + self._indent_increment
            self._action_max_length = max(self._action_max_length, longest)

    def _format_action_invocation(self, action: Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        values = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {values}"

    def _get_help_string(self, action: Action) -> str | None:
        shown = action.option_strings and action.nargs != 0 and action.default not in (None, SUPPRESS, "", (), [])
        if action.help and shown and "default" not in action.help:
            return f"{action.help} (default: %(default)s)"
        return action.help

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("example"):
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """A parser that escapes control characters of arguments in its messages, and suggests what a slip may mean.

    Args:
        fill: adds the arguments; called once, before they are used, so that other commands load nothing for them.
        more: as `argparse.ArgumentParser`.
    """

    def __init__(self, *, fill: Callable[[Parser], None] | None = None, **more: Any) -> None:
        super().__init__(formatter_class=Help, allow_abbrev=False, **more)
        self._fill = fill

    def filled(self) -> Parser:
        """Itself, with its arguments."""
        fill, self._fill = self._fill, None
        if fill is not None:
            fill(self)
        return self

    def whole(self) -> Parser:
        """Itself, with the arguments of all commands below it."""
        for below in commands_of(self.filled()):
            below.whole()
        return self

    def below(self, name: str) -> Parser:
        """The parser of a command directly below it, with its arguments."""
        return next(each for each in commands_of(self) if each.prog.split()[-1] == name).filled()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As `argparse`, but an unknown option of this command is an error here, with the nearest known one."""
        found, rest = super(Parser, self.filled()).parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}{unknown_option(rest, self._option_string_actions)}")
        return found, rest

    def _check_value(self, action: Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, unknown_choice(str(value), tuple(map(str, action.choices))))

    def format_help(self) -> str:
        """As `argparse`."""
        return super(Parser, self.filled()).format_help()

    def error(self, message: str) -> NoReturn:
        """Prints one sentence and ends the process; the options are in the help."""
        self.exit(2, f"qdqgraph: {message}; options: {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Prints help and version; `argparse` ignores that stdout cannot be written."""
        if message and file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Prints the message and ends the process."""
        super().exit(status, message and printable_lines(message))


def commands_of(parser: argparse.ArgumentParser) -> Iterator[Parser]:
    """Yields the parsers of the commands directly below a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def add_command(
    commands: Commands, name: str, text: str, example: str, fill: Callable[[Parser], None] | None = None
) -> Parser:
    """Adds a command; returns its parser.

    Args:
        commands: the result of `add_subparsers`.
        name: the command.
        text: what it does, for the list of commands and its own help.
        example: one command, or several in lines.
        fill: adds its arguments when they are needed; None if the caller adds them to the parser.
    """

    def all_of_it(parser: Parser) -> None:
        if fill is not None:
            fill(parser)
        add_general(parser)

    lines = example.splitlines()
    epilog = "\n  ".join([f"example{'s' if len(lines) > 1 else ''}:", *lines])
    about = f"{text[0].upper()}{text[1:]}."
    parser: Parser = commands.add_parser(name, help=text, description=about, epilog=epilog, fill=all_of_it)
    return parser


def add_general(parser: argparse.ArgumentParser) -> None:
    """Adds the options that every command has."""
    general = parser.add_argument_group("general")
    help = "do not load the rules of installed packs"
    general.add_argument("--no-packs", action="store_true", default=SUPPRESS, help=help)
    help = "print the traceback of an internal error, for a report"
    general.add_argument("--traceback", action="store_true", default=SUPPRESS, help=help)

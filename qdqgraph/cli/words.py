"""`words`: the command line that gives a command the same arguments."""

from __future__ import annotations

from argparse import Action, Namespace
from collections.abc import Iterator
from pathlib import Path

from .parsers import Parser

REPAIRED = ("repair", "rules", "general")
"""Groups of options that a command which looks for findings hands on to the one that repairs them."""
DIAGNOSES = ("profile_rules", "traceback")
"""Options of these groups that are about one run."""
FIXED = ".fixed.onnx"
"""How the name of the proposed output ends."""


def words(command: Parser, args: Namespace) -> list[str]:
    """The words that give a command the arguments of a namespace, without the program's name.

    Args:
        command: the parser of the command.
        args: values by destination; an option that is absent, or has its default, is left out.
    """
    said: set[str] = set()
    found = command.prog.split()[1:]
    for action in sorted(command._actions, key=lambda action: bool(action.option_strings)):
        value = getattr(args, action.dest, None)
        if action.dest in said or value is None or value == command.get_default(action.dest):
            continue
        given = list(_action_words(action, value))
        found += given
        said |= {action.dest} if given else set()
    return found


def _action_words(action: Action, value: object) -> Iterator[str]:
    """The words of one argument; none if it is an option that sets another constant."""
    several = isinstance(value, list | tuple)
    parts = [_word(part) for part in (value if isinstance(value, list | tuple) else (value,))]
    if not action.option_strings:
        yield from parts
    elif action.nargs == 0:
        if action.const == value:
            yield action.option_strings[0]
    elif several and action.nargs is None:  # an option that is given once for each value
        for part in parts:
            yield from _option(action, part)
    elif several:
        yield from (action.option_strings[0], *parts)
    else:
        yield from _option(action, *parts)


def _option(action: Action, part: str) -> tuple[str, ...]:
    return (f"{action.option_strings[-1]}={part}",) if part.startswith("-") else (action.option_strings[0], part)


def _word(part: object) -> str:
    return f"./{part}" if isinstance(part, Path) and str(part).startswith("-") else str(part)


def repairing(args: Namespace, model: Path) -> tuple[str, ...]:
    """The command that repairs a file with the options of the command that found its findings."""
    fix = args.parser.below("fix")
    carried = {a.dest for group in fix._action_groups if group.title in REPAIRED for a in group._group_actions}
    chosen = {name: value for name, value in vars(args).items() if name in carried.difference(DIAGNOSES)}
    out = model.with_name(f"{model.name.removesuffix('.onnx')}{FIXED}")
    return "qdqgraph", *words(fix, Namespace(**chosen, model=model, output=out))

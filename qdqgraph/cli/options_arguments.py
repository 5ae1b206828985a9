"""The options of the command line that set `Options`."""

from __future__ import annotations

from argparse import _ActionsContainer

from ..repair.options import Options
from .numbers import not_negative


def add_options(verb: _ActionsContainer, *, all_of_them: bool, floats: bool = False) -> None:
    """Adds the options of `Options` to a command: all of them, or those with `check`; with `floats` without those that
    have no effect on a float model."""
    for field, known in Options.table().items():
        if not (known.check or all_of_them) or (floats and known.scaled):
            continue
        flag = f"--{known.name}"
        if known.kind == "flag":
            verb.add_argument(flag, dest=field, action="store_true", help=known.help)
        elif known.kind == "list":
            verb.add_argument(
                flag, dest=field, action="append", default=[], metavar=known.metavar or None, help=known.help
            )
        else:
            kind = not_negative if known.kind == "number" else str
            choices = known.choices or None
            metavar = known.metavar or None
            verb.add_argument(flag, dest=field, type=kind, choices=choices, metavar=metavar, help=known.help)

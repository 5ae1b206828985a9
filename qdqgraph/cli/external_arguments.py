"""The option on external data that fix, quantize and strip share."""

from __future__ import annotations

from argparse import _ActionsContainer


def add_external(group: _ActionsContainer) -> None:
    """Adds the option to a command or a group of its options."""
    help = "an output in another folder has copies of the external data, or reads them below it (default: copy)"
    group.add_argument("--external", choices=["copy", "keep"], default="copy", help=help)

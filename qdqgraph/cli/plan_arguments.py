"""The options about how a written model was made: --plan, --no-provenance."""

from __future__ import annotations

from argparse import _ActionsContainer
from pathlib import Path


def add_plan(verb: _ActionsContainer) -> None:
    """Adds the options to a command that writes a repaired model."""
    verb.add_argument("--plan", type=Path, metavar="FILE", help="save the plan, for apply and undo")
    help = "do not write version, rules, options and digest of the input into the metadata of the model"
    verb.add_argument("--no-provenance", action="store_true", help=help)

"""The functions of the public API: they accept a model or its path, and all other arguments by name.

The command line parses its arguments, calls these functions and prints their results; diagrams and the tools for rule
authors are in `report` and `authoring`. The functions write only the files given as `output`, `plan` and `keep`. Each
is imported on first use, so that checking a model does not import the engine builders.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checks import check
    from .engines import build, compare, forecast, opened, read_engine
    from .plans import apply, diff, undo
    from .repairs import Result, fix, strip, to_fp16
    from .rulebook import rules, why

MODULES = {
    "checks": ("check",),
    "engines": ("build", "compare", "forecast", "opened", "read_engine"),
    "repairs": ("Result", "fix", "strip", "to_fp16"),
    "plans": ("apply", "diff", "undo"),
    "rulebook": ("rules", "why"),
}
"""The public names of each module."""


def __getattr__(name: str) -> Any:
    for module, names in MODULES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Result",
    "apply",
    "build",
    "check",
    "compare",
    "diff",
    "fix",
    "forecast",
    "opened",
    "read_engine",
    "rules",
    "strip",
    "to_fp16",
    "undo",
    "why",
]

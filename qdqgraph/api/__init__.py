"""Every call there is: a model or its path in, everything else by name. The command line only parses and prints.

The calls are pure but for what they are asked to write: `output`, `plan`, `keep`. Each loads on first use, so that
checking a model does not load what builds engines.
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
"""The names that each module offers."""


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

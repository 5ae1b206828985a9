"""The functions of the public API: they accept a model or its path, and all other arguments by name.

The functions write only the files given as `output`, `plan` and `keep`, and have no other side effects.
"""

from .engines import build, compare, forecast, opened, read_engine
from .models import Result, check, fix, strip, to_fp16
from .plans import apply, diff, undo
from .rules import rules, why

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

"""Every call there is: a model or its path in, everything else by name. The command line only parses and prints.

The calls are pure but for what they are asked to write: `output`, `plan`, `keep`.
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

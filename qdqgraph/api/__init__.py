"""The calls on models, plans, rules and engines: a model or its path in, everything else by name.

The command line parses, calls these, and prints; `report` has what a result looks like, `authoring` the tools for rule
authors. The calls write only what they are asked to (`output`, `plan`, `keep`, `statistics`, `storage`), and replace a
file only with `force`. Each is imported on first use, so that checking a model does not import the engine builders.
"""

from typing import TYPE_CHECKING

from ..late import late

if TYPE_CHECKING:
    from ..report.checked import Checked
    from ..report.results import Result
    from ..report.tuned import Tuned
    from .accuracy import error
    from .checks import check
    from .engines import build, compare, estimate, forecast, opened, read_engine
    from .execution import engine_error
    from .plans import apply, diff, undo
    from .quantizing import quantize
    from .ranking import sensitivity
    from .repairs import fix, to_fp16
    from .rulebook import rules, why
    from .stripping import strip
    from .tuning import tune, tune_status

LATE = {
    ".accuracy": "error",
    ".checks": "check",
    ".engines": "build compare estimate forecast opened read_engine",
    ".execution": "engine_error",
    ".plans": "apply diff undo",
    ".quantizing": "quantize",
    ".ranking": "sensitivity",
    ".repairs": "fix to_fp16",
    ".rulebook": "rules why",
    ".stripping": "strip",
    ".tuning": "tune tune_status",
    "..report.checked": "Checked",
    "..report.results": "Result",
    "..report.tuned": "Tuned",
}
"""The names by module."""


if not TYPE_CHECKING:  # a type checker would take any name for one that exists
    __getattr__ = late(__name__, LATE)


def __dir__() -> list[str]:
    return list(__all__)


__all__ = [
    "Checked",
    "Result",
    "Tuned",
    "apply",
    "build",
    "check",
    "compare",
    "diff",
    "engine_error",
    "error",
    "estimate",
    "fix",
    "forecast",
    "opened",
    "quantize",
    "read_engine",
    "rules",
    "sensitivity",
    "strip",
    "to_fp16",
    "tune",
    "tune_status",
    "undo",
    "why",
]

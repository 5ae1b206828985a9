"""The calls on models, plans, rules and engines: a model or its path in, everything else by name.

The command line parses, calls these, and prints; diagrams are in `report`, the tools for rule authors in `authoring`.
The calls write only what they are asked to: `output`, `plan`, `keep`. Each is imported on first use, so that checking a
model does not import the engine builders.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .accuracy import error
    from .checks import Checked, check, checked
    from .engines import build, compare, estimate, forecast, opened, read_engine
    from .execution import engine_error
    from .plans import apply, diff, undo
    from .quantizing import quantize
    from .ranking import sensitivity
    from .repairs import fix, to_fp16
    from .results import Result
    from .rulebook import rules, why
    from .stripping import strip
    from .tuning import Tuned, tune, tune_status

MODULES = {
    "accuracy": ("error",),
    "checks": ("Checked", "check", "checked"),
    "engines": ("build", "compare", "estimate", "forecast", "opened", "read_engine"),
    "execution": ("engine_error",),
    "quantizing": ("quantize",),
    "ranking": ("sensitivity",),
    "repairs": ("fix", "to_fp16"),
    "results": ("Result",),
    "plans": ("apply", "diff", "undo"),
    "rulebook": ("rules", "why"),
    "stripping": ("strip",),
    "tuning": ("Tuned", "tune", "tune_status"),
}
"""The names that each module offers."""


def __getattr__(name: str) -> Any:
    for module, names in MODULES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)


__all__ = [
    "Checked",
    "Result",
    "Tuned",
    "apply",
    "build",
    "check",
    "checked",
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

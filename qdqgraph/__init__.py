"""qdqgraph repairs Q/DQ scales and placements in ONNX graphs, so that TensorRT fuses them into INT8 kernels.

    import qdqgraph
    result = qdqgraph.fix("model.onnx", output="fixed.onnx")

This is the public API for users and integrators; rule files import `qdqgraph.rulekit`. All names except the errors are
loaded on first use: importing this package loads neither torch nor onnxruntime nor tensorrt nor onnx-graphsurgeon.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import EngineError, ModelError, PlanError, QdqgraphError, RepairError, RuleError, TorchError

if TYPE_CHECKING:
    from .api import (
        Result,
        apply,
        build,
        check,
        compare,
        diff,
        fix,
        forecast,
        read_engine,
        rules,
        strip,
        to_fp16,
        undo,
        why,
    )
    from .engines.layers import Engine
    from .fp16 import Fp16Model
    from .repair.options import Options
    from .repair.plan import Plan
    from .rulekit.finding import Finding, Safety, Severity
    from .targets.target import Target

__version__ = "0.1.0"

LATE = {
    "Engine": ("engines.layers", "Engine"),
    "Finding": ("rulekit.finding", "Finding"),
    "Fp16Model": ("fp16", "Fp16Model"),
    "Options": ("repair.options", "Options"),
    "Plan": ("repair.plan", "Plan"),
    "Result": ("api", "Result"),
    "Safety": ("rulekit.finding", "Safety"),
    "Severity": ("rulekit.finding", "Severity"),
    "Target": ("targets.target", "Target"),
    "apply": ("api", "apply"),
    "build": ("api", "build"),
    "check": ("api", "check"),
    "compare": ("api", "compare"),
    "diff": ("api", "diff"),
    "fix": ("api", "fix"),
    "forecast": ("api", "forecast"),
    "read_engine": ("api", "read_engine"),
    "rules": ("api", "rules"),
    "strip": ("api", "strip"),
    "to_fp16": ("api", "to_fp16"),
    "undo": ("api", "undo"),
    "why": ("api", "why"),
}
"""Names that are loaded on first use, as (module, attribute); importing this package takes less than 0.05 s."""


def __getattr__(name: str) -> Any:
    if name in LATE:
        module, attribute = LATE[name]
        return getattr(import_module(f".{module}", __name__), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Engine",
    "EngineError",
    "Finding",
    "Fp16Model",
    "ModelError",
    "Options",
    "Plan",
    "PlanError",
    "QdqgraphError",
    "RepairError",
    "Result",
    "RuleError",
    "Safety",
    "Severity",
    "Target",
    "TorchError",
    "apply",
    "build",
    "check",
    "compare",
    "diff",
    "fix",
    "forecast",
    "read_engine",
    "rules",
    "strip",
    "to_fp16",
    "undo",
    "why",
]

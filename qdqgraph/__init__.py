"""qdqgraph repairs Q/DQ scales and placements in ONNX graphs, so that TensorRT fuses them into INT8 kernels.

    import qdqgraph
    result = qdqgraph.fix("model.onnx", output="fixed.onnx")

This is the public API for users and integrators; rule files import `qdqgraph.rulekit`. All names except the errors are
loaded on first use: importing this package loads neither torch nor onnxruntime nor tensorrt nor onnx-graphsurgeon.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    CalibrationError,
    EngineError,
    ModelError,
    PlanError,
    QdqgraphError,
    RepairError,
    RuleError,
    TorchError,
)

if TYPE_CHECKING:
    from .api import (
        Result,
        apply,
        build,
        check,
        compare,
        diff,
        engine_error,
        error,
        estimate,
        fix,
        forecast,
        quantize,
        read_engine,
        rules,
        sensitivity,
        strip,
        to_fp16,
        tune,
        undo,
        why,
    )
    from .engines.execute.numbers import EngineNumbers
    from .engines.layers import Engine
    from .fp16 import Fp16Model
    from .repair.options import Options
    from .repair.plan import Plan
    from .rulekit.finding import Finding, Safety, Severity
    from .targets.target import Target
    from .verify.layers import Accuracy
    from .verify.sensitivity.ranking import Sensitivity

__version__ = "0.1.0"

LATE = {
    "Accuracy": "verify.layers",
    "Engine": "engines.layers",
    "EngineNumbers": "engines.execute.numbers",
    "Finding": "rulekit.finding",
    "Fp16Model": "fp16",
    "Options": "repair.options",
    "Plan": "repair.plan",
    "Result": "api",
    "Safety": "rulekit.finding",
    "Sensitivity": "verify.sensitivity.ranking",
    "Severity": "rulekit.finding",
    "Target": "targets.target",
    "apply": "api",
    "build": "api",
    "check": "api",
    "compare": "api",
    "diff": "api",
    "engine_error": "api",
    "error": "api",
    "estimate": "api",
    "fix": "api",
    "forecast": "api",
    "quantize": "api",
    "read_engine": "api",
    "rules": "api",
    "sensitivity": "api",
    "strip": "api",
    "to_fp16": "api",
    "tune": "api",
    "undo": "api",
    "why": "api",
}
"""Names that are loaded on first use, with their modules; importing this package takes less than 0.05 s."""


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(import_module(f".{LATE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


__all__ = [
    "Accuracy",
    "CalibrationError",
    "Engine",
    "EngineError",
    "EngineNumbers",
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
    "Sensitivity",
    "Severity",
    "Target",
    "TorchError",
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
    "quantize",
    "read_engine",
    "rules",
    "sensitivity",
    "strip",
    "to_fp16",
    "tune",
    "undo",
    "why",
]

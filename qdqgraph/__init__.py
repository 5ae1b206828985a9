"""qdqgraph repairs Q/DQ scales and placements in ONNX graphs, so that TensorRT fuses them into INT8 kernels.

    import qdqgraph
    result = qdqgraph.fix("model.onnx", output="fixed.onnx")
    print(result.summary())

This is the public API for users and integrators; rule files import `qdqgraph.rulekit`, and `qdqgraph.torch` is the
PyTorch side. All names except the errors are loaded on first use: importing this package loads neither torch nor
onnxruntime nor tensorrt nor onnx-graphsurgeon. Steps are logged to the logger "qdqgraph"; nothing is printed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ArgumentError,
    CalibrationError,
    EngineError,
    InternalError,
    ModelError,
    PlanError,
    QdqgraphError,
    RepairError,
    RuleError,
    TorchError,
)

if TYPE_CHECKING:
    from .api import (
        Tuned,
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
        tune_status,
        undo,
        why,
    )
    from .authoring.why import Answer
    from .engines.compare.diff import Diff
    from .engines.execute.numbers import EngineNumbers
    from .engines.layers import Engine
    from .engines.timing.roofline import Estimate
    from .fp16 import Fp16Model
    from .repair.options import Options
    from .repair.plan import Plan
    from .report.checked import Checked
    from .report.results import Result
    from .rulekit.finding import Finding, Safety, Severity
    from .rulekit.rule import Rule
    from .search.outcome import SearchStatus
    from .targets.target import Target
    from .verify.layers import Accuracy
    from .verify.sensitivity.ranking import Sensitivity

__version__ = "0.1.0"

LATE = {
    "Accuracy": "verify.layers",
    "Answer": "authoring.why",
    "Checked": "report.checked",
    "Diff": "engines.compare.diff",
    "Engine": "engines.layers",
    "EngineNumbers": "engines.execute.numbers",
    "Estimate": "engines.timing.roofline",
    "Finding": "rulekit.finding",
    "Fp16Model": "fp16",
    "Options": "repair.options",
    "Plan": "repair.plan",
    "Result": "report.results",
    "Rule": "rulekit.rule",
    "Safety": "rulekit.finding",
    "SearchStatus": "search.outcome",
    "Sensitivity": "verify.sensitivity.ranking",
    "Severity": "rulekit.finding",
    "Target": "targets.target",
    "Tuned": "report.tuned",
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
    "tune_status": "api",
    "undo": "api",
    "why": "api",
}
"""Names that are loaded on first use, with their modules; importing this package takes less than 0.05 s."""


if not TYPE_CHECKING:  # a type checker would take any name for one that exists

    def __getattr__(name: str) -> Any:
        if name in LATE:
            return getattr(import_module(f".{LATE[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)


__all__ = [
    "Accuracy",
    "Answer",
    "ArgumentError",
    "CalibrationError",
    "Checked",
    "Diff",
    "Engine",
    "EngineError",
    "EngineNumbers",
    "Estimate",
    "Finding",
    "Fp16Model",
    "InternalError",
    "ModelError",
    "Options",
    "Plan",
    "PlanError",
    "QdqgraphError",
    "RepairError",
    "Result",
    "Rule",
    "RuleError",
    "Safety",
    "SearchStatus",
    "Sensitivity",
    "Severity",
    "Target",
    "TorchError",
    "Tuned",
    "__version__",
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
    "tune_status",
    "undo",
    "why",
]

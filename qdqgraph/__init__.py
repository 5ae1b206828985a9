"""qdqgraph repairs Q/DQ scales and placements in ONNX graphs, so that TensorRT fuses them into INT8 kernels.

    import qdqgraph
    result = qdqgraph.fix("model.onnx", output="fixed.onnx")
    print(result.summary())

This is the public API for users and integrators; rule files import `qdqgraph.rulekit`, and `qdqgraph.torch` is the
PyTorch side. All names except the errors are loaded on first use: importing this package loads neither torch nor
onnxruntime nor tensorrt nor onnx-graphsurgeon. Steps are logged to the logger "qdqgraph"; nothing is printed.
"""

from typing import TYPE_CHECKING

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
from .late import late

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
    ".verify.layers": "Accuracy",
    ".authoring.why": "Answer",
    ".report.checked": "Checked",
    ".engines.compare.diff": "Diff",
    ".engines.layers": "Engine",
    ".engines.execute.numbers": "EngineNumbers",
    ".engines.timing.roofline": "Estimate",
    ".rulekit.finding": "Finding Safety Severity",
    ".fp16": "Fp16Model",
    ".repair.options": "Options",
    ".repair.plan": "Plan",
    ".report.results": "Result",
    ".rulekit.rule": "Rule",
    ".search.outcome": "SearchStatus",
    ".verify.sensitivity.ranking": "Sensitivity",
    ".targets.target": "Target",
    ".report.tuned": "Tuned",
    ".api": "apply build check compare diff engine_error error estimate fix forecast quantize read_engine "
    "rules sensitivity strip to_fp16 tune tune_status undo why",
}
"""Names that are loaded on first use, by module; importing this package takes less than 0.05 s."""


if not TYPE_CHECKING:  # a type checker would take any name for one that exists
    __getattr__ = late(__name__, LATE)


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

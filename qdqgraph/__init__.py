"""qdqgraph repairs Q/DQ scales and places in ONNX graphs, so that TensorRT fuses them into INT8 kernels.

    import qdqgraph
    result = qdqgraph.fix("model.onnx", output="fixed.onnx")

This is the public face for users and integrators; rule files import `qdqgraph.rulekit`. Every name but the errors loads
on first use: importing this package loads neither torch nor onnxruntime nor tensorrt nor onnx-graphsurgeon.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import EngineError, ModelError, PlanError, QdqgraphError, RepairError, RuleError, TorchError

if TYPE_CHECKING:
    from .api import check, fix, strip, to_fp16
    from .fp16 import Fp16Model
    from .repair.options import Options
    from .repair.plan import Plan
    from .repair.rounds import Result
    from .rulekit.catalog import load as rules
    from .rulekit.finding import Finding, Safety, Severity
    from .targets.target import Target

__version__ = "0.1.0"

LATE = {
    "Finding": ("rulekit.finding", "Finding"),
    "Fp16Model": ("fp16", "Fp16Model"),
    "Options": ("repair.options", "Options"),
    "Plan": ("repair.plan", "Plan"),
    "Result": ("repair.rounds", "Result"),
    "Safety": ("rulekit.finding", "Safety"),
    "Severity": ("rulekit.finding", "Severity"),
    "Target": ("targets.target", "Target"),
    "check": ("api", "check"),
    "fix": ("api", "fix"),
    "rules": ("rulekit.catalog", "load"),
    "strip": ("api", "strip"),
    "to_fp16": ("api", "to_fp16"),
}
"""Names that load on first use: importing this package stays under 0.05 s."""


def __getattr__(name: str) -> Any:
    if name in LATE:
        module, attribute = LATE[name]
        return getattr(import_module(f".{module}", __name__), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
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
    "check",
    "fix",
    "rules",
    "strip",
    "to_fp16",
]

"""qdqgraph repairs Q/DQ scales and places in ONNX graphs, so that TensorRT fuses them into INT8 kernels.

    import qdqgraph
    result = qdqgraph.fix("model.onnx", output="fixed.onnx")

This is the public face: a rule file imports this package and nothing else of it. Importing it loads neither torch nor
onnxruntime nor tensorrt.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .blocks import Residual, Side, block, opens_block, residual, residuals, skips_convolution
from .clipping import cut, cuts
from .constants import PASS_VALUE
from .edit import Constant, Graft, NodeInput, PlacePair, Proposal, Rewire, SetPair
from .errors import ModelError, PlanError, QdqgraphError, RepairError, RuleError
from .finding import Finding, Safety, Severity, Tie
from .graph import Graph, Node, Reader, key, label
from .grid import Grid
from .pair import INT8_BOUND, PER_CHANNEL, Pair, bits_lost, is_foreign, is_pair, needed, pairs, scale_from_amax
from .patterns import (
    BINARY,
    ONE_TO_ONE,
    POOLS,
    WEIGHTED,
    Move,
    Use,
    activation,
    carried,
    closed,
    common_grid,
    moved,
    pointwise,
    scales_at,
    self_gate,
    sites,
)
from .replacing import attributes, constant, dequantized, in_front, operator, replace
from .rule import Counterexample, Example, Rule
from .target import Target
from .unpair import unpaired
from .weights import (
    INT4,
    around_zero,
    channel_axis,
    fixed,
    obstacle,
    readers,
    refitted,
    rescaled,
    shifted,
    stood_for,
    symmetric,
    weights,
    widened,
)

if TYPE_CHECKING:
    from .api import check, fix, halve, strip
    from .catalog import load as rules
    from .half import Halved
    from .options import Options
    from .plan import Plan
    from .repair import Result

__version__ = "0.1.0"

LATE = {
    "Halved": ("half", "Halved"),
    "Options": ("options", "Options"),
    "Plan": ("plan", "Plan"),
    "Result": ("repair", "Result"),
    "check": ("api", "check"),
    "fix": ("api", "fix"),
    "halve": ("api", "halve"),
    "rules": ("catalog", "load"),
    "strip": ("api", "strip"),
}
"""Names that load on first use: a rule file needs none of them, and importing this package stays under 0.05 s."""


def __getattr__(name: str) -> Any:
    if name in LATE:
        module, attribute = LATE[name]
        return getattr(import_module(f".{module}", __name__), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BINARY",
    "INT4",
    "INT8_BOUND",
    "ONE_TO_ONE",
    "PASS_VALUE",
    "PER_CHANNEL",
    "POOLS",
    "WEIGHTED",
    "Constant",
    "Counterexample",
    "Example",
    "Finding",
    "Graft",
    "Graph",
    "Grid",
    "Halved",
    "ModelError",
    "Move",
    "Node",
    "NodeInput",
    "Options",
    "Pair",
    "PlacePair",
    "Plan",
    "PlanError",
    "Proposal",
    "QdqgraphError",
    "Reader",
    "RepairError",
    "Residual",
    "Result",
    "Rewire",
    "Rule",
    "RuleError",
    "Safety",
    "SetPair",
    "Severity",
    "Side",
    "Target",
    "Tie",
    "Use",
    "activation",
    "around_zero",
    "attributes",
    "bits_lost",
    "block",
    "carried",
    "channel_axis",
    "check",
    "closed",
    "common_grid",
    "constant",
    "cut",
    "cuts",
    "dequantized",
    "fix",
    "fixed",
    "halve",
    "in_front",
    "is_foreign",
    "is_pair",
    "key",
    "label",
    "moved",
    "needed",
    "obstacle",
    "opens_block",
    "operator",
    "pairs",
    "pointwise",
    "readers",
    "refitted",
    "replace",
    "rescaled",
    "residual",
    "residuals",
    "rules",
    "scale_from_amax",
    "scales_at",
    "self_gate",
    "shifted",
    "sites",
    "skips_convolution",
    "stood_for",
    "strip",
    "symmetric",
    "unpaired",
    "weights",
    "widened",
]
